"""A log that remembers its lines."""

from __future__ import annotations


class Lines:
    """Collects what is logged, as (event, fields)."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []

    def __call__(self, event: str, **fields: object) -> None:
        """Remember one line."""
        self.lines.append((event, fields))

    @property
    def events(self) -> list[str]:
        """The events alone."""
        return [event for event, _ in self.lines]
