"""URLs and options of stores, and what is said about wrong ones."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from mailqueue.store.base import StoreRefused
from mailqueue.store.buckets import open_bucket
from mailqueue.store.file import FileStore
from mailqueue.store.memory import MemoryStore
from mailqueue.store.objects import ObjectsStore
from mailqueue.store.options import Limits, StoreOptions, StoreUrlError
from mailqueue.store.urls import open_store

KEYS = StoreOptions(access_key="AK", secret="SK", region="eu-west-1")


@pytest.mark.parametrize(
    ("url", "options", "name"),
    [
        ("s3://bucket/prefix", KEYS, "s3://bucket/prefix"),
        ("s3://bucket", KEYS, "s3://bucket"),
        ("s3://bucket/a/b/", KEYS, "s3://bucket/a/b"),
        ("gs://bucket/x", StoreOptions(), "gs://bucket/x"),
        ("az://container/x", StoreOptions(access_key="account", secret="aGk="), "az://container/x"),
        (
            "s3://bucket/x",
            StoreOptions(
                endpoints=("http://127.0.0.1:1", "http://127.0.0.1:2"),
                allow_http=True,
                access_key="AK",
                secret="SK",
            ),
            "s3://bucket/x at http://127.0.0.1:1",
        ),
    ],
)
def test_names_of_object_stores(url: str, options: StoreOptions, name: str, tmp_path: Path) -> None:
    if url.startswith("gs:"):
        path = tmp_path / "account.json"
        path.write_text(json.dumps({"private_key": "x", "private_key_id": "1", "client_email": "a@b"}))
        options = StoreOptions(endpoints=("https://127.0.0.1:1",))
        name += " at https://127.0.0.1:1"
    store = open_store(url, options)
    assert isinstance(store, ObjectsStore)
    assert store.name == name
    assert len(store.endpoints) == max(1, len(options.endpoints))


def test_memory_and_files(tmp_path: Path) -> None:
    assert isinstance(open_store("memory:"), MemoryStore)
    for url in (f"file:{tmp_path}/queue", f"file://{tmp_path}/queue/"):
        store = open_store(url)
        assert isinstance(store, FileStore)
        assert store.name == f"file:{tmp_path}/queue"
        asyncio.run(store.close())


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("", "'' is no store: expected memory:, file:/path, s3://bucket/prefix"),
        ("/var/spool", "'/var/spool' is no store: expected"),
        ("redis://x", "'redis://x' is no store: expected"),
        ("memory:x", "nothing can follow memory:"),
        ("file:queue", "'file:queue': expected file:/path, with an absolute path"),
        ("file://host/queue", "expected file:/path"),
        ("file:/", "expected file:/path"),
        ("s3:/bucket", "'s3:/bucket': expected s3://bucket/prefix, with the name of a bucket"),
        ("s3://", "with the name of a bucket"),
        ("az://c!/x", "expected az://container/prefix, with the name of a container"),
        ("s3://bucket/a//b", "expected a prefix of letters"),
        ("s3://bucket/../b", "expected a prefix of letters"),
        ("s3://AK:SK@bucket/x", "with the name of a bucket"),
    ],
)
def test_wrong_urls(url: str, expected: str) -> None:
    with pytest.raises(StoreUrlError) as caught:
        open_store(url, KEYS)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("url", "options", "expected"),
    [
        ("s3", {"endpoints": ("http://h:1",)}, "endpoint 'http://h:1': expected https://, or allow_http"),
        ("s3", {"endpoints": ("h:1",)}, "endpoint 'h:1': expected https://host"),
        ("s3", {"endpoints": ("https://h:99999",)}, "expected https://host"),
        ("s3", {"endpoints": ("https://a:secret@h",)}, "credentials belong into options"),
        ("s3", {"access_key": "AK"}, "both access_key and a secret"),
        ("s3", {"access_key": "AK", "secret": "x", "secret_file": "y"}, "secret or secret_file, not both"),
        (
            "s3",
            {"access_key": "AK", "secret_file": "/none"},
            "secret_file '/none': No such file",
        ),
        ("s3", {"access_key": "AK", "secret_file": "{empty}"}, "expected one line of ASCII"),
        ("s3", {"credentials_file": "/none"}, "credentials_file '/none': No such file"),
        ("s3", {"credentials_file": "{empty}"}, "expected [default] with aws_access_key_id"),
        ("s3", {"credentials_file": "{noise}"}, "expected sections of lines name = value"),
        ("s3", {"credentials_file": "{empty}", "access_key": "AK"}, "or credentials_file, not both"),
        ("s3", {"ca_file": "/none"}, "ca_file '/none': No such file"),
        ("s3", {"ca_file": "{noise}"}, "noise': expected certificates in PEM"),
        ("s3", {"ca_file": "{damaged}"}, "damaged': expected certificates in PEM"),
        (
            "s3",
            {"endpoints": ("https://192.0.2.1",), "path_style": False},
            "endpoint 'https://192.0.2.1': expected a host name without path_style",
        ),
        ("s3", {"endpoints": ("https://[2001:db8::1]",), "path_style": False}, "expected a host name"),
        ("gs", {"access_key": "AK"}, "expected credentials_file, the JSON file of a service account"),
        ("gs", {"credentials_file": "/none"}, "No such file or directory"),
        ("gs", {"credentials_file": "{noise}"}, "decode service account file"),
        (
            "gs",
            {"credentials_file": "{key}"},
            "key': expected the JSON file of a service account: Error reading",
        ),
        ("gs", {"endpoints": ("https://a", "https://b")}, "several endpoints are for s3 only"),
        (
            "az",
            {"access_key": "a", "secret": "not base64!"},
            "expected the key of the account, in base64: Invalid Access Key",
        ),
        ("az", {"credentials_file": "/x"}, "expected access_key (the account's name)"),
    ],
)
def test_wrong_options(url: str, options: dict[str, object], expected: str, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    (tmp_path / "noise").write_text("noise")
    (tmp_path / "damaged").write_text("-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----\n")
    account = {"type": "service_account", "client_email": "a@b", "private_key": "x", "private_key_id": "1"}
    (tmp_path / "key").write_text(json.dumps(account))
    placed = {
        name: str(tmp_path / value.strip("{}")) if isinstance(value, str) and value[0] == "{" else value
        for name, value in options.items()
    }
    with pytest.raises(StoreUrlError) as caught:
        open_store(f"{url}://bucket/x", StoreOptions(**placed))  # type: ignore[arg-type]
    assert expected in str(caught.value)
    assert "secret@" not in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "path_style", "place"),
    [
        ("https://s3.example.net", None, "https://s3.example.net/mail/ns/a?"),
        ("https://s3.example.net:9000/s3", True, "https://s3.example.net:9000/s3/mail/ns/a?"),
        ("https://s3.example.net:9000", False, "https://mail.s3.example.net:9000/ns/a?"),
        ("https://mail.s3.example.net", False, "https://mail.s3.example.net/ns/a?"),
        ("https://mail", False, "https://mail/ns/a?"),
        ("", None, "https://mail.s3.eu-west-1.amazonaws.com/ns/a?"),
    ],
)
def test_where_the_bucket_stands(endpoint: str, path_style: bool | None, place: str) -> None:
    """Other programs, too, are told an endpoint without the bucket, and put it in front of the host name."""
    options = replace(KEYS, endpoints=(endpoint,) if endpoint else (), path_style=path_style)
    store = open_bucket("s3://mail/ns", "s3", options)
    (inner,) = store._all
    assert isinstance(inner, S3Store)
    assert obstore.sign(inner, "GET", "a", timedelta(minutes=1)).startswith(place)


def test_the_environment_is_named_when_it_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/none")
    with pytest.raises(StoreUrlError, match="GOOGLE_APPLICATION_CREDENTIALS '/none': expected the JSON file"):
        open_store("gs://bucket")


def test_an_account_of_azure_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(StoreUrlError, match="Account must be specified"):
        open_store("az://container")


def test_credentials_from_a_file_as_the_tools_of_aws_have(tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    path.write_text("[mail]\naws_access_key_id = AK\naws_secret_access_key = S%K\n")
    store = open_store("s3://bucket/x", StoreOptions(credentials_file=str(path), profile="mail"))
    assert store.name == "s3://bucket/x"
    (tmp_path / "secret").write_text("SK\n")
    open_store("s3://bucket/x", StoreOptions(access_key="AK", secret_file=str(tmp_path / "secret")))


def test_options_show_no_secret() -> None:
    assert "SK" not in repr(KEYS)


def test_a_folder_whose_parent_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="opening it: the folder above it does not exist"):
        open_store(f"file:{tmp_path}/no/queue")


@pytest.mark.parametrize("limits", [{"connect": 0}, {"request": -1}, {"retries": -1}])
def test_limits_are_positive(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="positive"):
        Limits(**limits)
