"""`qctl health --local` without the rest of qctl: evaluate the health files of this host's workers.

In:  command-line words.  Out: an exit code, lines on stdout.  Only the standard library and one format are
imported: an orchestrator runs this every few seconds, and imports are most of its cost.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from qcore.wire import pulse as wire

OK, USAGE, NOT_FOUND, NOT_MET = 0, 2, 3, 6
KINDS = ("live", "ready", "startup")


def quick(argv: Sequence[str]) -> int | None:
    """The exit code if these words are a plain local probe; None: the full command must parse them."""
    if not argv or argv[0] != "health" or "--local" not in argv:
        return None
    node, kind, form = "", "ready", "table"
    words = list(argv[1:])
    while words:
        word = words.pop(0)
        if word in ("-d", "--destination", "-o", "--output") and words:
            value = words.pop(0)
            node, form = (value, form) if word in ("-d", "--destination") else (node, value)
        elif word.removeprefix("--") in KINDS:
            kind = word[2:]
        elif word != "--local":
            return None
    if form not in ("table", "json") or set(node) & set(",*?["):
        return None
    return probe(kind, [node] if node else [], form == "json")


def probe(kind: str, nodes: Sequence[str], as_json: bool, quiet: bool = False) -> int:
    """Read the health files of these nodes, or of all on this host; print; return the exit code."""
    found = [p for p in wire.read_all() if p.node in nodes] if nodes else wire.read_all()
    if not nodes and any(p.runs for p in found):
        found = [p for p in found if p.runs]  # without the files of workers that were killed
    items = [
        {"node": p.node, "pid": p.pid, "ok": not _trouble(kind, p), "why": _trouble(kind, p)} for p in found
    ]
    missing = [n for n in nodes if n not in {p.node for p in found}]
    bad = [i for i in items if not i["ok"]]
    if as_json:
        document = {"schema": "qctl.health", "version": 1, "probe": kind, "items": items, "missing": missing}
        sys.stdout.write(json.dumps(document) + "\n")
    elif not quiet:
        for item in items:
            sys.stdout.write(f"{_shown(item['node'])}  {'ok' if item['ok'] else item['why']}\n")
    if missing or not items:
        names = ", ".join(map(_shown, missing))
        sys.stderr.write(f"qctl: no worker{' named ' + names if names else ''} runs on this host\n")
        return NOT_FOUND if missing else NOT_MET
    return NOT_MET if bad else OK


def _trouble(kind: str, pulse: wire.HealthRecord) -> str:
    if kind == "ready":
        return pulse.unready
    return pulse.starting if kind == "startup" else pulse.trouble


def _shown(text: object) -> str:
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(text))
