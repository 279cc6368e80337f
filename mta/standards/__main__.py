"""Write the page in the current folder."""

from __future__ import annotations

from pathlib import Path

from mta.standards.page import PAGE, page

Path(PAGE).write_text(page(), encoding="utf-8")
