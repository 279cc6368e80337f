"""How securely mail goes to a domain: DANE, MTA-STS, REQUIRETLS, pins, capability records, TLS reports."""
