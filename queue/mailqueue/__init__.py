"""The replicated queue on object storage: knows bytes, times and recipients; nothing of SMTP."""
