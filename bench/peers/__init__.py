"""Servers that Tamis is measured against, started with private folders and ports."""
