"""Suggest a completion for a filter or a command while it is typed.

In:  the typed text.  Out: the completed line, shown after the cursor; the right arrow accepts it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from textual.suggester import Suggester

from qctl.output.text import shown

#: current values by field: name, queue, worker
Live = Callable[[], Mapping[str, Iterable[str]]]


class FilterHints(Suggester):
    """Suggests fields, states, and known names of tasks, queues and workers."""

    def __init__(self, live: Live) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._live = live

    async def get_suggestion(self, value: str) -> str | None:
        from qctl.filters.fields import completions

        head, space, word = value.rpartition(" ")
        if not word:
            return None
        sign = "-" if word.startswith("-") else ""
        field, colon, part = word.removeprefix("-").partition(":")
        if colon and part:
            names = sorted(n for n in self._live().get(field, ()) if n.startswith(part) and n != part)
            names = [n for n in names if shown(n) == n and " " not in n]
            if names:
                return f"{head}{space}{sign}{field}:{names[0]}"
        fits = [text for text, _ in completions(word) if text.startswith(word) and text != word]
        return f"{head}{space}{fits[0]}" if fits else None
