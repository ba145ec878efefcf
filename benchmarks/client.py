"""One measurement of one contestant, in a process that has loaded nothing else.

python -m benchmarks.client SIDE MEASURE N    prints one JSON document
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

from benchmarks.contestants import load

MEASURES = ("publish", "bulk", "roundtrip")


def main(side: str, what: str, n: int) -> Any:
    """What the measurement found; for `fill` the ids of what was queued."""
    module = load(side)
    if what == "fill":
        return importlib.import_module("benchmarks.drain").fill(module, n)
    if what not in MEASURES:
        raise SystemExit(f"no measurement named '{what}'")
    return importlib.import_module(f"benchmarks.{what}").measure(module, n)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
