"""Reports about the mail of other domains, once a day: what TLS-RPT and DMARC aggregate reports share."""
