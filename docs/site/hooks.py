"""Hooks of mkdocs: pages that are not written yet are left out, and guides are found before lists of names.

In:  the configuration of mkdocs.yml, and each page.  Out: the navigation without the entries of PLANNED that
have no file (any other entry without a file stays, and makes the strict build fail); weights for the search.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

#: pages that the navigation has a place for before they are written
PLANNED = frozenset({"recordings.md", "observability.md"})

#: page -> weight in the search, of pages that have every word; others have 1
WEIGHTS = {
    "celery-inventory.md": 0.1,
    "cli.md": 0.3,
    "api.md": 0.3,
    "settings.md": 0.3,
    "architecture.md": 0.3,
}


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called by mkdocs for each page, before it is made."""
    if page.file.src_uri in WEIGHTS:
        page.meta["search"] = {"boost": WEIGHTS[page.file.src_uri]}
    return markdown


def on_config(config: Any) -> Any:
    """Called by mkdocs when it has read mkdocs.yml."""
    config.nav = written(config.nav, Path(config.docs_dir))
    return config


def written(nav: list[Any], docs: Path) -> list[Any]:
    """The navigation without the planned pages that are not there."""
    kept: list[Any] = []
    for entry in nav:
        title, target = next(iter(entry.items())) if isinstance(entry, dict) else (None, entry)
        if isinstance(target, list):
            kept.append({title: written(target, docs)})
        elif target not in PLANNED or (docs / target).exists():
            kept.append(entry)
    return kept
