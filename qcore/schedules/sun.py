"""When the sun rises, sets or stands highest at a place, with the library ephem.

In:  an event, a place, an instant.  Out: the first such event after it, in whole seconds.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from qcore.errors import BadSchedule, ConfigError, did_you_mean


class Event(NamedTuple):
    """How ephem finds an event."""

    method: str
    horizon: str  # degrees, or degrees:minutes
    center: bool  # of the sun; else its upper edge
    words: str


#: the names of Celery
EVENTS = {
    "dawn_astronomical": Event("next_rising", "-18", True, "astronomical dawn"),
    "dawn_nautical": Event("next_rising", "-12", True, "nautical dawn"),
    "dawn_civil": Event("next_rising", "-6", True, "civil dawn"),
    "sunrise": Event("next_rising", "-0:34", False, "sunrise"),
    "solar_noon": Event("next_transit", "0", False, "solar noon"),
    "sunset": Event("next_setting", "-0:34", False, "sunset"),
    "dusk_civil": Event("next_setting", "-6", True, "civil dusk"),
    "dusk_nautical": Event("next_setting", "-12", True, "nautical dusk"),
    "dusk_astronomical": Event("next_setting", "-18", True, "astronomical dusk"),
}
#: an event that does not happen for so long never happens at this place
SEARCH_DAYS = 366
MISSING = "solar schedules need the library ephem, which is not installed; run: pip install 'qctl[solar]'"


def ephem() -> Any:
    """The library. Raises ConfigError if it is missing."""
    try:
        import ephem  # type: ignore[import-untyped, unused-ignore]
    except ImportError as exc:
        raise ConfigError(MISSING) from exc
    return ephem


def check(event: object, lat: Any, lon: Any) -> None:
    """Raise BadSchedule for an event that is none, or a place that is not on the earth."""
    if event not in EVENTS:
        hint = did_you_mean(str(event), EVENTS) or f"; known: {', '.join(EVENTS)}"
        raise BadSchedule(f"the sun has no event '{event}'{hint}")
    for name, value, most in (("latitude", lat, 90), ("longitude", lon, 180)):
        try:
            fits = -most <= value <= most
        except TypeError:
            fits = False
        if not fits:
            raise BadSchedule(f"the {name} {value} is not in -{most} to {most} degrees")


def observer(event: str, lat: float, lon: float) -> Any:
    """ephem's observer of an event at sea level."""
    found = ephem().Observer()
    found.lat, found.lon, found.elev = str(lat), str(lon), 0
    found.horizon, found.pressure = EVENTS[event].horizon, 0
    return found


def next_event(cal: Any, event: str, start: datetime, days: int = SEARCH_DAYS) -> tuple[datetime, bool]:
    """The first event after an aware datetime, in UTC; in the polar night, for instance, the search goes on
    from day to day. After so many days it ends: (where it ended, False)."""
    library = ephem()
    sun, how = library.Sun(), EVENTS[event]
    options = {"use_center": True} if how.center else {}
    at = library.Date(start.astimezone(UTC).replace(tzinfo=None))
    for _ in range(days):
        try:
            found = getattr(cal, how.method)(sun, start=at, **options)
            return found.datetime().replace(tzinfo=UTC), True
        except library.CircumpolarError:
            at = cal.next_antitransit(sun, start=at)
    return at.datetime().replace(tzinfo=UTC), False


class SunTimes:
    """The events at one place, epoch seconds."""

    def __init__(self, event: str, lat: float, lon: float) -> None:
        check(event, lat, lon)
        ephem()
        self._event, self._lat, self._lon = event, lat, lon

    def after(self, us: int) -> int | None:
        """The first event after an instant (epoch microseconds); None if it does not happen for a year."""
        cal = observer(self._event, self._lat, self._lon)  # one of its own: it is no object for many threads
        start = datetime.fromtimestamp(us // 1_000_000, UTC)
        # ephem's result depends on where it starts by a few milliseconds, and on the host. Neither must make
        # a second event of the one at which the last search ended.
        whole = us % 1_000_000 == 0
        for _ in range(3):
            moment, found = next_event(cal, self._event, start)
            if not found:
                return None
            second = round(moment.timestamp())
            if second * 1_000_000 > us + whole * 1_000_000:
                return second
            start = moment + timedelta(hours=1)
        return None
