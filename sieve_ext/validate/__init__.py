"""Checks of a script that go beyond its grammar."""
