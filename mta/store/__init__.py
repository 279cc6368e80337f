"""The embedded mail store: an LMTP server that writes Maildir, for demonstrations and small hosts."""
