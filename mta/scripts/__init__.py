"""Sieve scripts that are kept for somebody: of users for their mail store, of the site for its policy."""
