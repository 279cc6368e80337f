"""Tamis, a mail transfer agent that answers before it accepts."""

__version__ = "0.1.0.dev0"
