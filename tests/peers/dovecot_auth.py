"""A private Dovecot that runs only its auth service: for logins over the auth protocol.

Users come from a passwd-file that the test writes; bearer tokens are JSON web tokens signed with
`TOKEN_KEY` (HS256), which Dovecot verifies by itself. It does not delay an address that guessed wrong.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.peers import dovecot_version as version
from tests.peers.needs import needs, program
from tests.peers.ports import free_port

TOKEN_KEY = b"a key that only the tests know"
START_TIMEOUT = 60.0
"""Seconds for a start that takes a fraction of one on an idle machine."""

_CONFIGURATION = """\
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols =
ssl = no
auth_mechanisms = plain login scram-sha-1 scram-sha-256 oauthbearer xoauth2 external
auth_ssl_username_from_cert = yes
auth_failure_delay = {failure_delay}
service auth {{
  unix_listener {folder}/auth {{
    mode = 0666
  }}
  inet_listener auth {{
    {listen} = 127.0.0.1
    port = {port}
  }}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
"""
_OAUTH2 = """\
introspection_mode = local
local_validation_key_dict = fs:posix:prefix={folder}/keys/
username_attribute = sub
"""
_USERDB = "userdb {\n driver = static\n args = uid=nobody gid=nogroup home=/nonexistent\n}\n"
_OAUTH2_2_4 = """\
oauth2 {{
  introspection_mode = local
  username_attribute = sub
  oauth2_local_validation {{
    dict fs {{
      fs posix {{
        prefix = {folder}/keys/
      }}
    }}
  }}
}}
"""
_USERDB_2_4 = """\
userdb static {
  fields {
    uid = nobody
    gid = nogroup
    home = /nonexistent
  }
}
"""


@dataclass
class DovecotAuth:
    """A running auth service."""

    folder: Path
    port: int

    @property
    def socket(self) -> str:
        """Path of the Unix socket."""
        return str(self.folder / "auth")

    def log(self) -> str:
        """What Dovecot has logged."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start it and wait until the socket greets."""
        subprocess.run([program("dovecot"), "-c", self.folder / "dovecot.conf"], check=True)
        end = time.monotonic() + START_TIMEOUT
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(START_TIMEOUT)
                probe.connect(self.socket)
                if probe.recv(64).startswith(b"VERSION"):
                    return
            time.sleep(0.05)
        raise AssertionError(f"Dovecot does not start:\n{self.log()}")

    def stop(self) -> None:
        """Stop it and wait until it is gone."""
        subprocess.run([program("dovecot"), "-c", self.folder / "dovecot.conf", "stop"], check=False)
        master = self.folder / "run" / "master.pid"
        end = time.monotonic() + START_TIMEOUT
        while master.exists() and time.monotonic() < end:
            time.sleep(0.05)


def token(user: str, *, key: bytes = TOKEN_KEY, expires_in: int = 600) -> str:
    """A bearer token for `user`, valid for so many seconds."""

    def encode(part: bytes) -> str:
        return base64.urlsafe_b64encode(part).rstrip(b"=").decode()

    now = int(time.time())
    header = encode(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
    body = encode(json.dumps({"sub": user, "iat": now - 5, "exp": now + expires_in}).encode())
    return f"{header}.{body}.{encode(hmac.digest(key, f'{header}.{body}'.encode(), hashlib.sha256))}"


def _configuration(folder: Path, port: int, failure_delay: str) -> str:
    passwords = "plain login scram-sha-1 scram-sha-256"
    if version.is_2_4():
        tokens, users = _OAUTH2_2_4.format(folder=folder), _USERDB_2_4
    else:
        tokens = (
            "passdb {\n driver = oauth2\n mechanisms = oauthbearer xoauth2\n"
            f" args = {folder}/oauth2.conf.ext\n}}\n"
        )
        users = _USERDB
    settings = _CONFIGURATION.format(
        folder=folder, port=port, failure_delay=failure_delay, listen=version.listen()
    )
    return (
        version.head()
        + settings
        + tokens
        + version.passdb_file(f"{folder}/users", passwords)
        + version.passdb_static("external")
        + users
    )


@contextlib.contextmanager
def dovecot_auth(users: str, *, failure_delay: str = "0") -> Iterator[DovecotAuth]:
    """Run an auth service with these lines of a passwd-file, in a folder that Dovecot's user may enter."""
    needs("dovecot-core", root=True)
    folder = Path(tempfile.mkdtemp(prefix="tamis-dovecot-"))
    port = free_port()
    folder.chmod(0o755)
    keys = folder / "keys" / "default" / "HS256"
    keys.mkdir(parents=True)
    (keys / "default").write_bytes(base64.b64encode(TOKEN_KEY))
    (folder / "users").write_text(users)
    (folder / "oauth2.conf.ext").write_text(_OAUTH2.format(folder=folder))
    (folder / "dovecot.conf").write_text(_configuration(folder, port, failure_delay))
    os.makedirs(folder / "run", exist_ok=True)
    service = DovecotAuth(folder, port)
    service.start()
    try:
        yield service
    finally:
        service.stop()
        shutil.rmtree(folder, ignore_errors=True)
