"""Random crontabs, and instants near the changes of time zones. All by one seed."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from functools import cache
from zoneinfo import ZoneInfo

NAMES = {
    "month": ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    "weekday": ("sun", "mon", "tue", "wed", "thu", "fri", "sat"),
}
START = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp())
END = int(datetime(2030, 1, 1, tzinfo=UTC).timestamp())


def field(rng: random.Random, least: int, most: int, names: tuple[str, ...] = ()) -> str:
    """One field in any form that Celery knows."""

    def one(number: int) -> str:
        return rng.choice((str(number), names[number - least])) if names else str(number)

    def number() -> int:
        return rng.randint(least, most)

    kind = rng.random()
    if kind < 0.35:
        return "*"
    if kind < 0.5:
        return f"*/{rng.randint(1, most)}"
    if kind < 0.65:
        return one(number())
    if kind < 0.75:
        return f"{one(number())}-{one(number())}"
    if kind < 0.85:
        return f"{one(number())}-{one(number())}/{rng.randint(1, 9)}"
    return ",".join(rng.choice((one(number()), f"{number()}-{number()}")) for _ in range(rng.randint(2, 5)))


def crontab_text(rng: random.Random) -> str:
    """Five fields, in the order of a crontab file; days that no month has are left out."""
    hour = field(rng, 0, 23)
    if rng.random() < 0.5:  # most changes of time zones are at night
        hour = rng.choice(("0", "1", "2", "3", "*/2", "0-4", "1,2", "2-3", "23", "0,23"))
    day = "*" if rng.random() < 0.6 else field(rng, 1, 28)
    month = "*" if rng.random() < 0.7 else field(rng, 1, 12, NAMES["month"])
    weekday = "*" if rng.random() < 0.6 else field(rng, 0, 6, NAMES["weekday"])
    return f"{field(rng, 0, 59)} {hour} {day} {month} {weekday}"


@cache
def changes(zone: str, start: int = START, end: int = END) -> tuple[int, ...]:
    """The instants in between at which a zone changes its offset, found without the code under test."""
    tz, found = ZoneInfo(zone), []

    def offset(instant: int) -> float:
        shift = datetime.fromtimestamp(instant, tz).utcoffset()
        assert shift is not None
        return shift.total_seconds()

    step = 21600
    for at in range(start, end, step):
        if offset(at) != offset(at + step):
            low, high = at, at + step
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset(middle) == offset(low) else (low, middle)
            found.append(high)
    return tuple(found)


def instant(rng: random.Random, zone: str) -> int:
    """An instant, mostly within a day of a change of the offset."""
    near = changes(zone)
    if near and rng.random() < 0.8:
        return rng.choice(near) + rng.randint(-86400, 86400)
    return rng.randint(START, END)
