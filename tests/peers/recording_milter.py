"""A milter on libmilter (Debian's python3-milter) that writes down what it is told, and edits on request.

Run by /usr/bin/python3 with a socket ("unix:/path") and a file; each callback is a JSON line there: its name,
its arguments and the macros that are visible. A message with "X-Edit: yes" is edited in every way;
"X-Edit: <anything else>" is answered with that word (reject, tempfail, discard, reply, quarantine).
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import Milter  # type: ignore[import-not-found]

MACROS = (
    *"j_vi",
    *("{daemon_name}", "{daemon_addr}"),
    *("{tls_version}", "{cipher}", "{cipher_bits}", "{cert_subject}", "{cert_issuer}"),
    *("{auth_type}", "{auth_authen}", "{auth_author}", "{mail_addr}", "{mail_host}", "{mail_mailer}"),
    *("{rcpt_addr}", "{rcpt_host}", "{rcpt_mailer}"),
)
LOG = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)


class Recorder(Milter.Base):  # type: ignore[misc]
    edit = ""

    def note(self, name: str, *arguments: Any) -> int:
        macros = {one: self.getsymval(one) for one in MACROS}
        found = {one: value for one, value in macros.items() if value is not None}
        line = json.dumps([name, [repr(one) for one in arguments], found])
        os.write(LOG, line.encode() + b"\n")
        return int(Milter.CONTINUE)

    def connect(self, hostname: str, family: int, hostaddr: Any) -> int:
        return self.note("connect", hostname, family, hostaddr)

    def hello(self, hostname: str) -> int:
        return self.note("hello", hostname)

    def envfrom(self, f: str, *words: str) -> int:
        self.edit = ""
        return self.note("envfrom", f, *words)

    def envrcpt(self, to: str, *words: str) -> int:
        self.note("envrcpt", to, *words)
        return int(Milter.REJECT if to.startswith("<refuse") else Milter.CONTINUE)

    def data(self) -> int:
        return self.note("data")

    def unknown(self, cmd: str) -> int:
        return self.note("unknown", cmd)

    def header(self, field: str, value: str) -> int:
        if field == "X-Edit":
            self.edit = value
        return self.note("header", field, value)

    def eoh(self) -> int:
        return self.note("eoh")

    def body(self, blk: bytes) -> int:
        return self.note("body", len(blk), blk[:40])

    def eom(self) -> int:
        self.note("eom")
        if self.edit == "yes":
            self.edits()
        elif self.edit == "quarantine":
            self.quarantine("for a look")
        elif self.edit == "reply":
            self.setreply("554", "5.7.9", "first 100%% line", "second")
            return int(Milter.REJECT)
        elif self.edit:
            return int(getattr(Milter, self.edit.upper()))
        return int(Milter.CONTINUE)

    def edits(self) -> None:
        self.chgheader("Subject", 1, "changed")
        self.chgheader("X-Twice", 2, "second changed\n\tand folded")
        self.chgheader("X-Gone", 1, "")
        self.chgheader("X-New", 3, "was not there")
        self.addheader("X-Last", "appended")
        self.addheader("X-Top", "above all", 0)
        self.addheader("X-Second", "below the first", 1)
        self.addheader("X-Fourth", "in the middle", 4)
        self.addheader("X-Far", "far", 200)
        self.chgfrom("<changed@sender.test>")
        self.addrcpt("<added@relay.test>")
        self.delrcpt("<gone@relay.test>")
        self.replacebody(b"new body\r\n.dot\r\n" + b"x" * 70 + b"\r\n")

    def abort(self) -> int:
        return self.note("abort")

    def close(self) -> int:
        return self.note("close")


if __name__ == "__main__":
    os.umask(0)
    Milter.factory = Recorder
    Milter.set_flags(
        Milter.CHGBODY
        + Milter.CHGHDRS
        + Milter.ADDHDRS
        + Milter.ADDRCPT
        + Milter.DELRCPT
        + Milter.CHGFROM
        + Milter.QUARANTINE
    )
    Milter.runmilter("recorder", sys.argv[1], 60)
