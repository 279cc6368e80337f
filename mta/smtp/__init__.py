"""Sans-IO sessions of SMTP, submission and LMTP, both sides: bytes in, events and bytes out."""
