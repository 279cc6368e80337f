"""Control socket, metrics and status of a running Tamis."""
