"""The embedded mail store: LMTP to Maildir, for `make demo` and small hosts."""
