"""A private Dovecot on loopback: LMTP over TCP and Unix socket, IMAP, SASL. Needs root and Debian's dovecot.

Users (password "secret"): those of `USERS`; `full` has a quota of 20 kB (552 5.2.2 or 452 4.2.2), the home
of `tempfail` cannot be made (451). Others are unknown (550 5.1.1). Ports are free ones, all files are in
a folder that is removed at the end.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from tests.peers import dovecot_version as version
from tests.peers.needs import needs, program
from tests.peers.ports import free_port

DOMAIN = "example.test"
PASSWORD = "secret"
USERS = ("good", "alice", "bob", "postmaster")

_CONF = """\
base_dir = {dir}/run
state_dir = {dir}/state
log_path = {dir}/dovecot.log
info_log_path = {dir}/info.log
protocols = imap lmtp
listen = 127.0.0.1
ssl = no
{clear}
auth_mechanisms = plain login scram-sha-1 scram-sha-256
mail_plugins = quota
first_valid_uid = 1
default_internal_user = dovecot
recipient_delimiter = +
lmtp_save_to_detail_mailbox = no
lmtp_rcpt_check_quota = {check_quota}
protocol lmtp {{
  mail_plugins = quota
  postmaster_address = postmaster@{domain}
  hostname = lmtp.{domain}
}}
service lmtp {{
  unix_listener lmtp {{
    mode = 0666
  }}
  inet_listener lmtp {{
    {listen} = 127.0.0.1
    port = {lmtp}
  }}
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service auth {{
  unix_listener {dir}/auth {{
    mode = 0666
  }}
  inet_listener auth {{
    {listen} = 127.0.0.1
    port = {auth}
  }}
}}
"""


class Dovecot:
    """A running Dovecot; use as a context manager."""

    def __init__(self, *, check_quota: bool = True, trusting: bool = False) -> None:
        """`check_quota`: a full mailbox is refused at RCPT, else after the content.

        `trusting`: whoever connects over TCP from 127.0.0.1 may say by XCLIENT who its client is.
        """
        needs("dovecot-core", "dovecot-lmtpd", "dovecot-imapd", root=True)
        # Its own folder: pytest's are closed to the users under which Dovecot runs.
        self.folder = folder = Path(tempfile.mkdtemp(prefix="tamis-dovecot-"))
        folder.chmod(0o755)
        self.lmtp_port, self.imap_port, self.auth_port = (free_port() for _ in range(3))
        self.lmtp_path = str(folder / "run" / "lmtp")
        self.auth_path = str(folder / "auth")
        self._conf = folder / "dovecot.conf"
        self._check_quota = check_quota
        self._trusting = trusting

    def __enter__(self) -> Dovecot:
        mail = self.folder / "mail"
        for path in (self.folder / "run", self.folder / "state", mail):
            path.mkdir(exist_ok=True)
        owner = pwd.getpwnam("mail")
        shutil.chown(mail, owner.pw_uid, owner.pw_gid)
        line = "{name}@{domain}:{{PLAIN}}{password}:{uid}:{gid}::{home}::{extra}\n"
        homes = {name: (mail / name, "") for name in USERS}
        homes["full"] = (mail / "full", version.quota_field(20000))
        homes["tempfail"] = (Path("/proc/nonexistent/tempfail"), "")
        users = "".join(
            line.format(
                name=name,
                domain=DOMAIN,
                password=PASSWORD,
                uid=owner.pw_uid,
                gid=owner.pw_gid,
                home=home,
                extra=extra,
            )
            for name, (home, extra) in homes.items()
        )
        (self.folder / "users").write_text(users)
        settings = _CONF.format(
            dir=self.folder,
            domain=DOMAIN,
            lmtp=self.lmtp_port,
            imap=self.imap_port,
            auth=self.auth_port,
            check_quota="yes" if self._check_quota else "no",
            listen=version.listen(),
            clear="auth_allow_cleartext = yes" if version.is_2_4() else "disable_plaintext_auth = no",
        )
        users_file = f"{self.folder}/users"
        self._conf.write_text(
            version.head()
            + settings
            + version.maildir()
            + version.passdb_file(users_file)
            + version.userdb_file(users_file)
            + version.quota("100M")
            + ("login_trusted_networks = 127.0.0.1\n" if self._trusting else "")
        )
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def start(self) -> None:
        """Start it and wait until it answers. Raises RuntimeError with its log when it does not."""
        self._command(check=True)
        limit = time.monotonic() + 60
        while time.monotonic() < limit:
            try:
                with socket.create_connection(("127.0.0.1", self.lmtp_port), 1) as s:
                    if s.recv(3) == b"220":
                        return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"Dovecot did not start: {self.log()}")

    def stop(self) -> None:
        """Stop it and wait until it is gone."""
        self._command("stop", check=False)
        master = self.folder / "run" / "master.pid"
        limit = time.monotonic() + 30
        while master.exists() and time.monotonic() < limit:
            time.sleep(0.02)

    def kill_lmtp(self) -> int:
        """Kill its LMTP processes at once; how many there were. Dovecot starts new ones."""
        master = int((self.folder / "run" / "master.pid").read_text())
        killed = 0
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                name, _, rest = status.read_text().partition("(")[2].rpartition(")")
            except OSError:
                continue  # ended meanwhile
            if name == "lmtp" and int(rest.split()[1]) == master:
                os.kill(int(status.parent.name), signal.SIGKILL)
                killed += 1
        return killed

    def _command(self, *words: str, check: bool) -> None:
        # Not over pipes: the daemon would keep them open.
        subprocess.run(
            [program("dovecot"), "-c", str(self._conf), *words],
            check=check,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def messages(self, user: str) -> list[bytes]:
        """The messages in a user's inbox, oldest first."""
        folder = self.folder / "mail" / user / "Maildir"
        files = [*folder.glob("new/*"), *folder.glob("cur/*")]
        return [path.read_bytes() for path in sorted(files, key=lambda path: path.stat().st_mtime_ns)]

    def log(self) -> str:
        """The end of its logs."""
        texts = [path.read_text() for path in self.folder.glob("*.log")]
        return "\n".join(texts)[-2000:]
