"""Configurations that the pages give as whole files: they can be used as they are, on a host in the world."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from mta import config
from mta.accounts.user import User
from mta.accounts.usersfile import edit
from mta.authn.dkimfolder import KeyFolder
from mta.authn.dkimrotate import KeyState
from mta.startup.claims import is_local, site_of
from mta.startup.result import Outcome
from mta.startup.runner import run, wanted
from mta.startup.world import World
from tests.peers.certificates import authority
from tests.unit.test_docs_pages import ROOT, blocks

DOMAIN = "ours.de"
"""In the place of example.org, which no host in the world has."""
COMPLETE = {
    "README.md": 0,
    "docs/configuration.md": 0,
    "docs/configuration.md 2": 1,
    "docs/dovecot.md": 0,
    "docs/install.md": 0,
    "conf/examples/minimal.toml": None,
    "conf/examples/dovecot.toml": None,
}
"""Which block of a page it is."""


def complete(name: str) -> str:
    """The text of a configuration, with a domain that could be published."""
    number = COMPLETE[name]
    text = (ROOT / name.split()[0]).read_text(encoding="utf-8")
    return (text if number is None else blocks(text, "toml")[number]).replace("example.org", DOMAIN)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """What an administrator has made beside the configuration."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # pytest's folders are closed to others
        made = Path(name)
        os.chmod(made, 0o755)
        ca = authority(made)
        assert ca.file
        issued = ca.issue("x", f"mail.{DOMAIN}")
        os.rename(issued.chain, made / "fullchain.pem")
        os.rename(issued.key, made / "privkey.pem")
        with edit(made / "users") as table:
            table.put(User(f"alice@{DOMAIN}").with_password("secret of alice"))
        (made / "provider.password").write_text("secret\n")
        (made / "provider.password").chmod(0o600)
        keys = KeyFolder(made / "dkim")
        active = [
            msgspec.structs.replace(entry, state=KeyState.ACTIVE)
            for entry in keys.create(DOMAIN, ("ed25519",), "one", 2048, 1.0)
        ]
        keys.write(DOMAIN, active)
        yield made


def written(folder: Path, text: str) -> Path:
    """The file, with folders and a user that are here."""
    path = folder / "tamis.toml"
    text = re.sub(r'(\buser = )"tamis"', rf'\1"{pwd.getpwuid(os.geteuid()).pw_name}"', text)
    own = ""
    for key, value in (("state_directory", "state"), ("runtime_directory", "run")):
        if key not in text:
            own += f'{key} = "{value}"\n'
    if "[process]\n" in text:
        text = text.replace("[process]\n", f"[process]\n{own}")
    else:
        text = re.sub("^", "process.", own, flags=re.MULTILINE).removesuffix("process.") + text
    if "[identity]" not in text:
        text = f'identity.hostname = "mail.{DOMAIN}"\n' + text
    ca = f'tls_ca = "{folder}/ca.pem"\n'
    path.write_text(
        text.replace("[checks]\n", f"[checks]\n{ca}") if "[checks]" in text else f"checks.{ca}{text}"
    )
    return path


@pytest.mark.parametrize("name", COMPLETE)
def test_complete_files_pass(folder: Path, name: str) -> None:
    """`check-config`, and the checks of the start as far as nobody has to answer: nothing is wrong.

    A local server starts without them.
    """
    report = config.examine(str(written(folder, complete(name))))
    assert list(map(str, report.errors)) == []
    assert report.config is not None
    site = site_of(report.config)
    checks = [] if is_local(report.config) else wanted(site)
    assert is_local(report.config) == (
        "minimal" in name or name in ("docs/configuration.md", "docs/install.md")
    )

    async def main() -> list[str]:
        found = await run(site, World(None, seconds=5.0), checks)
        return [
            f"{one.check}: {one.found}"
            for results in found.values()
            for one in results
            if one.outcome is Outcome.WRONG
        ]

    assert asyncio.run(main()) == []


def test_what_is_called_complete_is_known() -> None:
    """Who writes "complete" or "a whole server" above a configuration has it tried here."""
    called = re.compile(
        r"(?:complete|[Ww]hole server)\b[^\n]*:\n+```toml\n(.*?)^```", re.MULTILINE | re.DOTALL
    )
    tried = [complete(name) for name in COMPLETE]
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    found = [block for page in pages for block in called.findall(page.read_text(encoding="utf-8"))]
    assert len(found) >= 2
    assert [block for block in found if block.replace("example.org", DOMAIN) not in tried] == []
