"""Asking the DNS through local validating resolvers: answers that say how far they can be trusted."""
