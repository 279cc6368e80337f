"""Which standards are kept, how far, and where: the table behind `docs/rfcs.md`.

    python -m mta.standards        # in the root of the source tree: writes the page

`yes`: what the standard asks of a server in our place is done. `partial`: some of it, which the note says.
`no`: none of it. What is to come is for the roadmap: nobody would think of this table when it has come. The
modules are where to look; each of them names the standard in its text.

Tests keep the table honest: the page is what this package writes, the modules exist and name the standard,
every RFC that the code or the pages speak of stands here, and so does that of every keyword of EHLO. No note
puts off, and what has status `no` is named by no module that the row does not name.
"""

from __future__ import annotations

from mta.standards.entry import Standard
from mta.standards.page import PAGE, TABLE, module_path, page, standards

__all__ = ["PAGE", "TABLE", "Standard", "module_path", "page", "standards"]
