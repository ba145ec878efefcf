"""Hook of mkdocs: guides are found before lists of names.

In:  each page.  Out: its weight in the search.
"""

from __future__ import annotations

from typing import Any

#: page -> weight in the search, of pages that have every word; others have 1
WEIGHTS = {
    "celery-inventory.md": 0.1,
    "cli.md": 0.3,
    "api.md": 0.3,
    "settings.md": 0.3,
    "architecture.md": 0.3,
    "benchmarks.md": 0.3,
}


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called by mkdocs for each page, before it is made."""
    if page.file.src_uri in WEIGHTS:
        page.meta["search"] = {"boost": WEIGHTS[page.file.src_uri]}
    return markdown
