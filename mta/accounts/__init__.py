"""Who may log in: users file, password hashes, the Dovecot authentication protocol."""
