"""Hooks of mkdocs: entries of the navigation whose page is not written yet are left out.

In:  the configuration of mkdocs.yml.  Out: the same, without the entries of PLANNED that have no file.
Any other entry without a file stays, and makes the strict build fail.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

#: pages that the navigation has a place for before they are written
PLANNED = frozenset({"recordings.md", "observability.md"})


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
