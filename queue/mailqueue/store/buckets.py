"""Object stores from a URL and options: endpoints, credentials, and what is wrong with them.

Credentials come from `StoreOptions`; where nothing is said there, from where the providers' own tools find
them: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_REGION, GOOGLE_APPLICATION_CREDENTIALS,
AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or the machine's identity in the cloud.
"""

from __future__ import annotations

import configparser
import os
import re
import ssl
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store

from mailqueue.store.answers import understand
from mailqueue.store.objects import DELETES_AT_ONCE, FEWER_DELETES, ObjectsStore
from mailqueue.store.options import Limits, StoreOptions, StoreUrlError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,220}[A-Za-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}(?:/[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}){0,2}")


def open_bucket(url: str, scheme: str, options: StoreOptions) -> ObjectsStore:
    """Open an object store; `scheme` is "s3", "gs" or "az". Nothing is sent yet. Raises StoreUrlError."""
    bucket, _, prefix = url.partition("://")[2].partition("/")
    what = "container" if scheme == "az" else "bucket"
    if not _BUCKET.fullmatch(bucket):
        raise StoreUrlError(f"{url!r}: expected {scheme}://{what}/prefix, with the name of a {what}")
    prefix = prefix.strip("/")
    if prefix and not _PREFIX.fullmatch(prefix):
        raise StoreUrlError(
            f"{url!r}: expected a prefix of letters, digits, '-', '_' and '.', with single slashes"
        )
    for endpoint in options.endpoints:
        _check_endpoint(url, endpoint, options)
    if scheme != "s3" and len(options.endpoints) > 1:
        raise StoreUrlError(f"{url!r}: several endpoints are for s3 only")
    name = f"{scheme}://{bucket}" + (f"/{prefix}" if prefix else "")
    names = [f"{name} at {endpoint}" for endpoint in options.endpoints] or [name]
    make = {"s3": _s3, "gs": _gs, "az": _az}[scheme]
    common: dict[str, Any] = {
        "prefix": prefix or None,
        "client_options": _client(url, options),
        "retry_config": _retries(options.limits),
    }
    try:
        stores = [make(url, bucket, endpoint, options, common) for endpoint in options.endpoints or ("",)]
    except (BaseError, ValueError, TypeError) as error:
        if isinstance(error, StoreUrlError):
            raise
        words = understand(str(error)).words
        raise StoreUrlError(f"{url!r}: {_expected(scheme, options, words)}{words}") from error
    deletes = DELETES_AT_ONCE if scheme == "s3" else FEWER_DELETES
    return ObjectsStore(names[0], stores, options.limits, deletes, names)


def _expected(scheme: str, options: StoreOptions, words: str) -> str:
    """Which credentials obstore's words are about, and what they should be."""
    if scheme == "gs":
        variable = "GOOGLE_APPLICATION_CREDENTIALS"
        file, name = options.credentials_file, "credentials_file"
        if not file:
            file, name = os.environ.get(variable, ""), variable
        if file:
            return f"{name} {file!r}: expected the JSON file of a service account: "
    if scheme == "az" and "Invalid Access Key" in words:
        return "expected the key of the account, in base64: "
    return ""


def _s3(url: str, bucket: str, endpoint: str, options: StoreOptions, common: dict[str, Any]) -> ObjectStore:
    config = dict(common)
    path_style = bool(endpoint) if options.path_style is None else options.path_style
    if endpoint:
        if not path_style:
            endpoint = _with_bucket(url, bucket, endpoint)
        config["endpoint"] = endpoint
        if "AWS_ENDPOINT_URL_S3" in os.environ:  # it would go before `endpoint`
            config["aws_endpoint_url_s3"] = endpoint
    config["virtual_hosted_style_request"] = not path_style
    if options.region:
        config["region"] = options.region
    access_key, secret, token = options.access_key, _secret(url, options), options.session_token
    if options.credentials_file:
        access_key, secret, token = _shared_credentials(url, options)
    if bool(access_key) != bool(secret):
        raise StoreUrlError(f"{url!r}: expected both access_key and a secret, or neither")
    if access_key:
        config |= {"access_key_id": access_key, "secret_access_key": secret}
    if token:
        config["session_token"] = token
    return S3Store(bucket, **config)


def _with_bucket(url: str, bucket: str, endpoint: str) -> str:
    """An endpoint whose host name begins with the bucket: obstore takes it as it is, without the bucket."""
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    if host == bucket.lower() or host.startswith(f"{bucket.lower()}."):
        return endpoint
    if ":" in host or host.replace(".", "").isdigit():
        raise StoreUrlError(f"{url!r}: endpoint {endpoint!r}: expected a host name without path_style")
    return parts._replace(netloc=f"{bucket}.{parts.netloc}").geturl()


def _gs(url: str, bucket: str, endpoint: str, options: StoreOptions, common: dict[str, Any]) -> ObjectStore:
    config = dict(common)
    if options.access_key or options.secret or options.secret_file:
        raise StoreUrlError(f"{url!r}: expected credentials_file, the JSON file of a service account")
    if endpoint:
        config["base_url"] = endpoint
    if options.credentials_file:
        config["service_account"] = options.credentials_file
    return GCSStore(bucket, **config)


def _az(url: str, bucket: str, endpoint: str, options: StoreOptions, common: dict[str, Any]) -> ObjectStore:
    config = dict(common)
    if options.credentials_file:
        raise StoreUrlError(f"{url!r}: expected access_key (the account's name) and secret or secret_file")
    if endpoint:
        config["endpoint"] = endpoint
    if options.access_key:
        config["account_name"] = options.access_key
    secret = _secret(url, options)
    if secret:
        config["account_key"] = secret
    return AzureStore(bucket, **config)


def _client(url: str, options: StoreOptions) -> ClientConfig:
    limits = options.limits
    client: ClientConfig = {
        "connect_timeout": timedelta(seconds=limits.connect),
        # Only a backstop: ObjectsStore has a time for each request, by its size.
        "timeout": timedelta(seconds=limits.request + limits.single_put / limits.slowest),
        "allow_http": options.allow_http,
    }
    if options.ca_file:
        client["root_certificate"] = _authorities(url, options.ca_file)
    return client


def _authorities(url: str, path: str) -> bytes:
    octets = _read(url, "ca_file", path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(
            cadata=octets.decode("ascii", "replace")
        )
    except ssl.SSLError:
        raise StoreUrlError(f"{url!r}: ca_file {path!r}: expected certificates in PEM") from None
    return octets


def _retries(limits: Limits) -> RetryConfig:
    return {
        "max_retries": limits.retries,
        "retry_timeout": timedelta(seconds=limits.request),
        "backoff": {
            "init_backoff": timedelta(milliseconds=100),
            "max_backoff": timedelta(seconds=1),
            "base": 2,
        },
    }


def _check_endpoint(url: str, endpoint: str, options: StoreOptions) -> None:
    try:
        parts = urlsplit(endpoint)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid or parts.query or parts.fragment:
        raise StoreUrlError(f"{url!r}: endpoint {endpoint!r}: expected https://host or https://host:port")
    if parts.username or parts.password:
        raise StoreUrlError(f"{url!r}: endpoint of {parts.hostname}: credentials belong into options")
    if parts.scheme == "http" and not options.allow_http:
        raise StoreUrlError(f"{url!r}: endpoint {endpoint!r}: expected https://, or allow_http")


def _secret(url: str, options: StoreOptions) -> str:
    if not options.secret_file:
        return options.secret
    if options.secret:
        raise StoreUrlError(f"{url!r}: expected secret or secret_file, not both")
    try:
        secret = _read(url, "secret_file", options.secret_file).decode("ascii").strip()
    except UnicodeDecodeError:
        secret = ""
    if not secret:
        raise StoreUrlError(f"{url!r}: secret_file {options.secret_file!r}: expected one line of ASCII")
    return secret


def _shared_credentials(url: str, options: StoreOptions) -> tuple[str, str, str]:
    if options.access_key or options.secret or options.secret_file:
        raise StoreUrlError(f"{url!r}: expected access_key and a secret, or credentials_file, not both")
    where = f"{url!r}: credentials_file {options.credentials_file!r}"
    parser = configparser.ConfigParser(interpolation=None, default_section="\0")
    try:
        parser.read_string(_read(url, "credentials_file", options.credentials_file).decode())
        section = parser[options.profile]
        found = section["aws_access_key_id"], section["aws_secret_access_key"]
    except (configparser.Error, UnicodeDecodeError):
        raise StoreUrlError(f"{where}: expected sections of lines name = value") from None
    except KeyError:
        raise StoreUrlError(
            f"{where}: expected [{options.profile}] with aws_access_key_id and aws_secret_access_key"
        ) from None
    return *found, section.get("aws_session_token", "")


def _read(url: str, option: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise StoreUrlError(f"{url!r}: {option} {path!r}: {error.strerror or error}") from None
