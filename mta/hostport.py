"""Hosts and ports as texts: how "host:port" is put together and taken apart."""

from __future__ import annotations


def host_port(host: str, port: int) -> str:
    """Both in one text, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_port(text: str, least: int = 0) -> int:
    """The number of a port. Raises ValueError."""
    if not (text.isascii() and text.isdigit()) or len(text) > 5 or not least <= int(text) <= 65535:
        raise ValueError(f"{text[:20]!r} is no port")
    return int(text)


def split_host_port(text: str) -> tuple[str, int]:
    """Host (without brackets) and port. Raises ValueError."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not rest.startswith(":"):
            raise ValueError("the port is missing")
        port = rest[1:]
    else:
        host, colon, port = text.rpartition(":")
        if not colon:
            raise ValueError("the port is missing")
        if ":" in host:
            raise ValueError("an IPv6 address stands in brackets")
    if not host:
        raise ValueError("the address is missing")
    return host, parse_port(port)
