"""The asyncio shells: the only users of sockets, TLS and DNS."""
