"""enclose (RFC 5703 section 6): the message becomes an attachment of a new one. Status: complete.

The new message has the text and the former message as its two parts. Fields named by :headers are taken over
from it, as is Subject without :subject; Date is made, and From is the recipient that the script runs for
(setting `sieve_user_email` before that). A redirect sends the message as it was (last paragraph of the
section).
"""

from __future__ import annotations

import hashlib
from email.utils import format_datetime

from sieve_ext.extend import (
    STRING,
    STRINGS,
    Act,
    Action,
    Capability,
    Compiler,
    Redirect,
    Run,
    Step,
    header_name,
    string,
    tag,
)
from sieve_ext.message import Message
from sieve_ext.runtime.parts import edit_body, replaced_whole

KEY = "enclose"
"""Where the message before it was enclosed is in `Run.state`."""


def text_part(text: str) -> bytes:
    """The first part: header, empty line, content."""
    octets = text.replace("\r\n", "\n").replace("\n", "\r\n").encode("utf-8", "replace")
    encoding = "7bit" if octets.isascii() else "8bit"
    head = f"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode("ascii") + octets


def enclosed(text: str, original: bytes) -> tuple[bytes, str]:
    """The body of the new message and its boundary, which occurs in neither part."""
    first = text_part(text)
    number = 0
    while True:
        seed = hashlib.sha256(b"%d" % number + first + original).hexdigest()[:32]
        boundary = f"=_{seed}"
        line = boundary.encode("ascii")
        if line not in first and line not in original:
            break
        number += 1
    encoding = "7bit" if original.isascii() else "8bit"
    head = (
        "Content-Type: message/rfc822\r\nContent-Disposition: attachment\r\n"
        f"Content-Transfer-Encoding: {encoding}\r\n\r\n"
    ).encode("ascii")
    body = b"\r\n".join((b"--" + line, first, b"--" + line, head + original, b"--" + line + b"--", b""))
    return body, boundary


class EncloseCommand(Act):
    """enclose [":subject" <string>] [":headers" <string-list>] <text: string>."""

    word = "enclose"
    args_definition = (
        tag("subject", ":subject", value=STRING),
        tag("headers", ":headers", value=STRINGS, check=header_name),
        string("text"),
    )

    def compile(self, compiler: Compiler) -> Step:
        """Enclose."""
        text = compiler.text(self.given["text"])
        subject = compiler.text(self.value("subject")) if self.has_tag("subject") else None
        headers = compiler.texts(self.value("headers"))

        def enclose(run: Run) -> None:
            former = run.message
            run.state.setdefault(KEY, former)
            run.spend(former.size // 1000 + 1)
            body, boundary = enclosed(text.expand(run), b"".join(former.chunks()))
            wanted = [name.lower() for name in headers.expand(run)]
            message = edit_body(run)
            replaced_whole(run)
            message.remove([field for field in message.fields if field.name])
            for name in dict.fromkeys(wanted):
                if name == "subject" and subject is not None:
                    continue
                for field in former.all(name):
                    message.add_raw(field.name, field.unfolded)
            if "date" not in wanted:
                message.add_raw("Date", format_datetime(run.now).encode("ascii"))
            if "from" not in wanted:
                author = run.settings.text("sieve_user_email") or run.envelope.recipient or "postmaster"
                message.add("From", author, None)
            if subject is not None:
                message.add("Subject", subject.expand(run), None)
            elif "subject" not in wanted and (line := former.get("subject")) is not None:
                message.add_raw("Subject", line.unfolded)
            message.remove([one for one in message.fields if is_described(one.key)])
            message.add_raw("MIME-Version", b"1.0")
            message.add_raw("Content-Type", f'multipart/mixed; boundary="{boundary}"'.encode("ascii"))
            message.replace_body(body)

        return enclose


def is_described(key: str) -> bool:
    """True of fields that describe the body."""
    return key.startswith("content-") or key == "mime-version"


def send_original(run: Run, action: Action) -> None:
    """Let a redirect send the message as it was before it was enclosed."""
    former = run.state.get(KEY)
    if isinstance(action, Redirect) and isinstance(former, Message):
        action.message = former


CAPABILITIES = (
    Capability(
        "enclose",
        words=(EncloseCommand,),
        on_action=send_original,
        specification="RFC 5703 section 6",
    ),
)
