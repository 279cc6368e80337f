"""The Sieve engine and the message index: pure, text and bytes in, answers out; knows nothing of SMTP."""
