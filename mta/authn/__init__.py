"""Who sent this? SPF, DKIM, DMARC, ARC: methods of sender authentication, and their results as values."""
