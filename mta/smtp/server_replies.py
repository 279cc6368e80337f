"""The replies that the server session gives by itself (RFC 5321 section 4.2, RFC 3463)."""

from __future__ import annotations

from mta.reply import Reply

OK = Reply(250, "2.0.0", "ok")
SENDER_OK = Reply(250, "2.1.0", "sender ok")
RECIPIENT_OK = Reply(250, "2.1.5", "recipient ok")
GO_AHEAD = Reply(354, "", "send the message, end with CRLF.CRLF")
READY_FOR_TLS = Reply(220, "2.0.0", "ready to start TLS")
AUTHENTICATED = Reply(235, "2.7.0", "authentication succeeded")
BYE = Reply(221, "2.0.0", "bye", close=True)
LINE_TOO_LONG = Reply(500, "5.5.2", "line too long")
BARE_LF = Reply(500, "5.5.2", "lines must end with CR LF")
UNKNOWN = Reply(500, "5.5.1", "command not recognised")
NOT_IMPLEMENTED = Reply(502, "5.5.1", "command not implemented")
FOREIGN = Reply(500, "5.5.1", "this is a mail server", close=True)
SYNCHRONISATION = Reply(554, "5.5.0", "protocol synchronisation error: wait for the reply", close=True)
TLS_TOO_EARLY = Reply(500, "5.5.1", "this port does not begin with TLS", close=True)
TOO_MANY_ERRORS = Reply(421, "4.7.0", "too many errors", close=True)
TOO_MANY_IDLE = Reply(421, "4.7.0", "too many commands without mail", close=True)
TOO_MANY_MESSAGES = Reply(421, "4.7.0", "too many messages in this session, connect again", close=True)
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "too many recipients")
NEED_TLS = Reply(530, "5.7.0", "must issue STARTTLS first")
AUTH_NEEDS_TLS = Reply(538, "5.7.11", "encryption required for authentication")
AUTH_TWICE = Reply(503, "5.5.1", "already authenticated")
NO_MECHANISM = Reply(504, "5.5.4", "authentication mechanism not supported")
AUTH_LINE_TOO_LONG = Reply(500, "5.5.6", "authentication exchange line is too long")
AUTH_CANCELLED = Reply(501, "5.7.0", "authentication cancelled")
BINARY_NEEDS_BDAT = Reply(503, "5.5.1", "BINARYMIME needs BDAT")
VRFY = Reply(252, "2.5.2", "cannot verify, but will take mail for it and try")
TLS_ACTIVE = Reply(503, "5.5.1", "TLS is already active")
PRDR_FOLLOWS = Reply(353, "", "replies for each recipient follow")
