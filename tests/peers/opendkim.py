"""opendkim as a signer and a verifier of single messages, the public keys in a file in place of a DNS."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from mta.authn.dkimkeys import SigningKey, write_key
from mta.authn.dkimrecord import record_name, record_text
from mta.folders import opened_folder
from tests.peers.needs import needs, program


class Opendkim:
    """opendkim in its test mode, with files in `folder`."""

    def __init__(self, folder: Path) -> None:
        needs("opendkim")
        self._folder = folder

    def results(self, message: bytes, *keys: SigningKey) -> list[tuple[str, str]]:
        """What it finds: (result, selector) of each signature, when `keys` are published."""
        lines = [f"{record_name(key.domain, key.selector)} {record_text(key)}\n" for key in keys]
        (self._folder / "public").write_text("".join(lines))
        output = self._run(f"Mode v\nTestPublicKeys {self._folder}/public\n", message, "-v", "-v")
        return re.findall(r"\bdkim=(\w+).*?header\.s=(\S+)", output)

    def signature(self, message: bytes, key: SigningKey, algorithm: str, canonicalization: str) -> bytes:
        """Its DKIM-Signature for a message, with CRLF line ends."""
        path = self._folder / f"{key.selector}.pem"
        if not path.exists():
            with opened_folder(self._folder) as folder:
                write_key(folder, path, key.key)
        output = self._run(
            f"Mode s\nDomain {key.domain}\nSelector {key.selector}\nKeyFile {path}\n"
            f"SignatureAlgorithm {algorithm}\nCanonicalization {canonicalization}\nOversignHeaders From\n"
            # The folder of a test stands below one that others may write to.
            "RequireSafeKeys false\n",
            message,
        )
        found = re.search(r"^DKIM-Signature:.*(?:\n\s.*)*", output, re.MULTILINE)
        assert found is not None, output
        return re.sub(r"\r?\n", "\r\n", found[0]).encode() + b"\r\n"

    def _run(self, settings: str, message: bytes, *options: str) -> str:
        conf, path = self._folder / "conf", self._folder / "message"
        conf.write_text(f"{settings}Syslog no\n")
        path.write_bytes(message)
        words = [program("opendkim"), "-x", str(conf), "-t", str(path), *options]
        done = subprocess.run(words, capture_output=True, timeout=30)
        output = (done.stdout + done.stderr).decode()
        assert done.returncode == 0, output
        return output
