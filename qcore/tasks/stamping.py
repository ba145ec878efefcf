"""Stamps: headers of the user that a workflow sets on all its tasks, as in Celery.

In:  the stamps of the caller and of a StampingVisitor.  Out: options of signatures: each stamp by its name,
and `stamped_headers`, the list of the names. app/sending.py makes them the headers `stamps` and
`stamped_headers` of the message.
"""

from __future__ import annotations

from typing import Any

NAMES = "stamped_headers"


class StampingVisitor:
    """Chooses stamps for each part of a workflow: each method returns a mapping of stamps, or None.

    A `stamped_headers` in a mapping lists which of its names are stamps; without it all are.
    """

    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any] | None:
        raise NotImplementedError("a StampingVisitor defines on_signature()")

    def on_group_start(self, group: Any, **headers: Any) -> dict[str, Any] | None:
        return {}

    def on_group_end(self, group: Any, **headers: Any) -> None: ...

    def on_chain_start(self, chain: Any, **headers: Any) -> dict[str, Any] | None:
        return {}

    def on_chain_end(self, chain: Any, **headers: Any) -> None: ...

    def on_chord_header_start(self, sig: Any, **headers: Any) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.on_group_start(sig.header, **headers)
        return found

    def on_chord_header_end(self, sig: Any, **headers: Any) -> None:
        self.on_group_end(sig.header, **headers)

    def on_chord_body(self, sig: Any, **headers: Any) -> dict[str, Any] | None:
        return {}

    def on_callback(self, callback: Any, **headers: Any) -> dict[str, Any] | None:
        return {}

    def on_errback(self, errback: Any, **headers: Any) -> dict[str, Any] | None:
        return {}


def together(
    headers: dict[str, Any], chosen: dict[str, Any] | None, own: dict[str, Any], append: bool
) -> dict[str, Any]:
    """The stamps of the caller, then those that the visitor chose, then those among the signature's own
    options. Of two with one name the first counts; with `append` both, in a list."""
    found: dict[str, Any] = {}
    names: list[str] = []
    for given in (headers, chosen or {}, {k: own[k] for k in (*own.get(NAMES, ()), NAMES) if k in own}):
        for name in given.get(NAMES) or [k for k in given if k != NAMES]:
            if name not in names:
                names.append(name)
        for name, value in given.items():
            if name == NAMES:
                continue
            if name not in found:
                found[name] = value
            elif append:
                found[name] = [*_listed(found[name]), *_listed(value)]
    return {**found, NAMES: names}


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple | set) else [value]
