"""What the Broker screen says of the server: its own facts, and what follows from two looks at it.

In:  ServerFacts and the response time of each poll.  Out: names and texts, in the order of the screen.
What a server does not tell has no line. Bounded: SPAN_S of looks. Before this: broker_poll.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from statistics import quantiles

from qcore.brokers.contract.diagnosis import ServerFacts
from qctl.output.text import age, size

#: seconds of polls that rates, slopes and percentiles are about
SPAN_S = 900.0
#: shortest time from which the growth of the memory is told, seconds
LEAST_SLOPE_S = 60.0
#: fewest response times with percentiles
LEAST_TRIPS = 20


class BrokerFacts:
    """Remembers the polls of the last SPAN_S seconds."""

    def __init__(self) -> None:
        #: what the charts show of the last poll: milliseconds, MiB, clients, commands per second
        self.numbers: dict[str, float | None] = {}
        self._looks: deque[tuple[float, ServerFacts, float | None]] = deque()

    def look(self, server: ServerFacts, round_trip_s: float | None, now: float) -> dict[str, str]:
        """Add a poll at `now`, monotonic seconds; returns the lines."""
        self._looks.append((now, server, round_trip_s))
        while now - self._looks[0][0] > SPAN_S:
            self._looks.popleft()
        trip_ms = None if round_trip_s is None else round_trip_s * 1000
        self.numbers = {
            "answers": trip_ms,
            "memory": None if server.memory is None else server.memory / 2**20,
            "clients": server.clients,
            "commands": self._per_s(server),
        }
        return dict(
            [
                *self._of_server(server),
                ("answers in", self._answers(round_trip_s)),
                *self._of_memory(server),
                *self._of_load(server),
            ]
        )

    def _of_server(self, server: ServerFacts) -> Iterator[tuple[str, str]]:
        if not server.software:
            return
        parts = [f"{server.software} {server.role}".rstrip()]
        if server.up_s is not None:
            parts.append(f"up {age(server.up_s)}")
        if server.replicas is not None:
            parts.append(f"{server.replicas} replica{'' if server.replicas == 1 else 's'}")
        if server.storage:
            parts.append(server.storage)
        yield "server", " · ".join(parts)

    def _answers(self, round_trip_s: float | None) -> str:
        if round_trip_s is None:
            return "-"
        trips = [1000 * trip for _, _, trip in self._looks if trip is not None]
        now = f"{round_trip_s * 1000:.1f} ms"
        if len(trips) < LEAST_TRIPS:
            return now
        cuts = quantiles(trips, n=100, method="inclusive")
        usual = f"p50 {cuts[49]:.1f} p95 {cuts[94]:.1f} p99 {cuts[98]:.1f} ms in {self._span()}"
        worst, at = max((trip, at) for at, _, trip in self._looks if trip is not None)
        ago = age(self._looks[-1][0] - at)
        return f"{now} · {usual} · slowest {1000 * worst:.1f} ms, {ago} ago"

    def _span(self) -> str:
        return age(self._looks[-1][0] - self._looks[0][0])

    def _of_memory(self, server: ServerFacts) -> Iterator[tuple[str, str]]:
        if server.memory is not None:
            used, most = server.memory, server.memory_most
            parts = [f"{size(used)} without a limit" if most == 0 else size(used)]
            if most:
                share = f"{100 * used / most:.0f} %"
                parts = [f"{size(used)} of {size(most)}, {share}", *self._full_in(used, most)]
            if server.memory_peak is not None:
                parts.append(f"peak {size(server.memory_peak)}")
            if server.keys is not None:
                parts.append(f"{server.keys:,} keys")
            if server.evicted is not None:
                parts.append(f"{server.evicted:,} evicted")
            yield "memory", " · ".join(parts)
        if server.file is not None:
            yield "file", f"{size(server.file)}, and {size(server.log)} of write-ahead log"

    def _full_in(self, used: int, most: int) -> list[str]:
        since, first, _ = self._looks[0]
        span = self._looks[-1][0] - since
        if first.memory is None or span < LEAST_SLOPE_S or used <= first.memory:
            return []
        return [f"full in {age((most - used) / (used - first.memory) * span)} at this slope"]

    def _of_load(self, server: ServerFacts) -> Iterator[tuple[str, str]]:
        parts = []
        if server.clients is not None:
            waits = "" if server.blocked is None else f", {server.blocked} of them wait in a command"
            parts.append(f"{server.clients} client{'' if server.clients == 1 else 's'}{waits}")
        per_s = self._per_s(server)
        if per_s is not None:
            parts.append(f"{per_s:,.0f} commands/s")
        if server.receives is not None and server.sends is not None:
            parts.append(f"{size(server.receives)}/s in, {size(server.sends)}/s out")
        if server.refused is not None:
            parts.append(f"{server.refused:,} connections refused")
        if parts:
            yield "load", " · ".join(parts)

    def _per_s(self, server: ServerFacts) -> float | None:
        """Commands per second since the poll before."""
        last = self._looks[-2] if len(self._looks) > 1 else None
        if last is None or server.commands is None or last[1].commands is None:
            return None
        span, count = self._looks[-1][0] - last[0], server.commands - last[1].commands
        return count / span if span > 0 and count >= 0 else None  # less after a restart
