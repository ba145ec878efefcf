"""Messages that are nearly tasks: valid ones, changed at random in ways that programs get wrong."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from tests.support.corpus import good

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1e308, 10**30, "", "0", "é\u202e\x00", "\ud800", [], {}, [None], {"": ""}),
    *([[]] * 3, [1, 2], ["a"] * 3, {"a": {"b": [0]}}, "x" * 5000, "../../etc/passwd", "2026-01-01T00:00:00"),
)


def mutants(count: int, seed: int = 1) -> Iterator[bytes]:
    """So many, the same ones for the same seed; some of them are still tasks."""
    chance = random.Random(seed)
    for number in range(count):
        message = good(number)
        for _ in range(chance.choice((1, 1, 2, 3))):
            _change(message, chance)
        raw = json.dumps(message).encode("utf-8", "surrogatepass")
        yield _damage(raw, chance) if chance.random() < 0.4 else raw


def _change(message: dict[str, Any], chance: random.Random) -> None:
    """Drop, retype or rename one field somewhere."""
    places = [message, *(v for v in message.values() if isinstance(v, dict))]
    place = chance.choice([p for p in places if p] or [message])
    if not place:
        return
    key = chance.choice(list(place))
    what = chance.random()
    if what < 0.2:
        del place[key]
    elif what < 0.3:
        place[f"{key}-"] = place.pop(key)
    elif what < 0.4:
        place[key] = [place[key]] * chance.randrange(3)
    else:
        place[key] = deepcopy(chance.choice(ODD))


def _damage(raw: bytes, chance: random.Random) -> bytes:
    """Flip, cut or repeat bytes."""
    data, at = bytearray(raw), chance.randrange(len(raw))
    what = chance.random()
    if what < 0.5:
        data[at] ^= 1 << chance.randrange(8)
    elif what < 0.7:
        del data[at:]
    elif what < 0.85:
        del data[at : at + chance.randrange(1, 20)]
    else:
        data[at:at] = data[at : at + chance.randrange(1, 20)]
    return bytes(data)
