"""One measurement of one contestant, in a process of the contestant's environment.

python -m benchmarks.client MODULE MEASURE [N …]    prints JSON documents, one a line

`drain` and the like talk: they say when the queue is full, wait for a line on standard input, and say
when the last result was there. Times are of the clock that all processes share.
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.contestants import Contestant, load
from benchmarks.intake import overhear, remember, take_in

LOOK_S = 0.002
GIVE_UP_S = 180.0
TAIL = 50
WARM = 100
WARM_TRIES = 4
WARM_S = 15.0
WARM_TRIPS_S = 3.0
AT_ONCE = 1000


def describe(side: Any) -> dict[str, Any]:
    """What the report and the measuring process have to know."""
    return {
        "settings": side.SETTINGS,
        "versions": side.versions() if hasattr(side, "versions") else _installed(side.PACKAGES),
        "tasks": side.TASKS,
        "bulk": hasattr(side, "send_bulk"),
        "tuples": hasattr(side, "send_tuples"),
        "environ": getattr(side, "ENVIRON", {}),
    }


def _installed(packages: Sequence[str]) -> dict[str, str]:
    versions = {}
    for name in packages:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def workers(side: Any, children: str) -> dict[str, Any]:
    return {"commands": side.workers(int(children))}


def publish(side: Contestant, n: str) -> dict[str, float]:
    """Calls a second, one at a time, from one thread."""
    side.send(WARM)
    return _timed(side, lambda: side.send(int(n)), int(n))


def together(side: Contestant, n: str, threads: str) -> dict[str, float]:
    """Calls a second, of several threads, each one at a time."""
    side.send(WARM)
    each = int(n) // int(threads)
    callers = [threading.Thread(target=side.send, args=(each,)) for _ in range(int(threads))]
    return _timed(side, lambda: [[one.start() for one in callers], [one.join() for one in callers]], int(n))


def bulk(side: Any, n: str) -> dict[str, float]:
    """Calls a second, a thousand at once."""
    return _at_once(side, side.send_bulk, int(n))


def tuples(side: Any, n: str) -> dict[str, float]:
    """The same, of one task with the same options."""
    return _at_once(side, side.send_tuples, int(n))


def _at_once(side: Any, send: Callable[[int], Any], n: int) -> dict[str, float]:
    send(10)
    sizes = [min(AT_ONCE, n - start) for start in range(0, n, AT_ONCE)]
    return _timed(side, lambda: [send(size) for size in sizes], n)


def _timed(side: Any, work: Callable[[], Any], n: int) -> dict[str, float]:
    took, burnt = _clock(side, work)
    return {"rate": n / took, "cpu_us": burnt / n * 1e6}


def _clock(side: Any, work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds and CPU seconds of the work; of the process that makes the calls, where that is another."""
    spent = getattr(side, "spent", None)
    if spent is not None:
        spent()  # what was called before does not count
        work()
        found: tuple[float, float] = spent()
        return found
    begin, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begin, time.process_time() - cpu


def trips(side: Contestant, n: str, limit_s: str = "1e9") -> dict[str, float]:
    """Round trips, each after the one before: median and 99th percentile in milliseconds.

    At most n, and at most for limit_s: some contestants look for results ten times a second.
    """
    stop = time.perf_counter() + WARM_TRIPS_S
    for number in range(min(WARM, int(n))):
        side.trip()  # the first one waits until the worker is ready
        if number >= 2 and time.perf_counter() > stop:
            break
    took: list[float] = []
    stop = time.perf_counter() + float(limit_s)
    while len(took) < int(n) and (time.perf_counter() < stop or len(took) < 2):
        took.append(_clock(side, side.trip)[0] * 1000)
    cuts = statistics.quantiles(took, n=100, method="inclusive")
    return {"p50": cuts[49], "p99": cuts[98], "n": len(took)}


def warm(side: Contestant, n: str, results: str) -> dict[str, float]:
    """Run n tasks, so that every process of the worker has run some; what the store then has.

    Again when not all came through: a SAQ worker that starts aborts what another has just taken.
    """
    for attempt in range(WARM_TRIES):
        handles = side.send(int(n))
        try:
            if results == "on":
                _wait_stored(side, handles, WARM_S)
            _wait(lambda: side.left() == 0, "the first tasks", WARM_S)
            return {"kept": side.kept()}
        except SystemExit:
            if attempt == WARM_TRIES - 1:
                raise
    raise AssertionError("unreachable")


def fill(side: Any, n: str) -> dict[str, float]:
    """Queue n tasks, and leave."""
    side.send(int(n))
    return {"filled": int(n)}


def drain(side: Any, n: str, results: str, before: str) -> dict[str, float]:
    """Queue n tasks, say so; after the go, wait until all are done, and count what is there."""
    handles = getattr(side, "fill", side.send)(int(n))
    _say({"filled": len(handles)})
    _await_go()
    if results == "on":
        _wait_stored(side, handles, GIVE_UP_S)
    else:
        _wait(lambda: side.left() == 0, "an empty queue", GIVE_UP_S)
    ended = time.monotonic()
    # What was acknowledged after its result has to be acknowledged, and nothing more may be there.
    _wait(lambda: side.left() == 0, "an empty queue", 30)
    extra = side.kept() - int(before) - (len(handles) if results == "on" else 0)
    if results == "on" and extra:
        raise SystemExit(f"{len(handles)} tasks left {len(handles) + extra} results")
    if results == "off" and extra > 0:
        raise SystemExit(f"results are off, and {extra} were stored")
    return {"ended": ended}


def backlog(side: Any, n: str, rest: str) -> dict[str, float]:
    """Queue n tasks and, behind them, copies of other tasks; wait for the results of the first n."""
    from benchmarks.contestants import QUEUE
    from benchmarks.contestants.keys import client

    handles = side.send(int(n))
    if int(rest):
        size = min(AT_ONCE, int(rest))
        side.send(size)
        copies = client().lrange(QUEUE, 0, size - 1)
        for start in range(size, int(rest), size):
            client().lpush(QUEUE, *copies[: int(rest) - start])
    _say({"filled": side.ready()})
    _await_go()
    _wait_stored(side, handles, GIVE_UP_S)
    return {"ended": time.monotonic()}


def lateness(side: Any, n: str, spread_s: str) -> dict[str, float]:
    """Tasks with a time each, evenly spread; by how many milliseconds they started late.

    The first is due a second and a half after publishing began, so that all are queued in time.
    """
    first = time.time() + 1.5 + int(n) / 1500
    handles = side.send_later([first + i * float(spread_s) / int(n) for i in range(int(n))])
    if time.time() > first:
        raise SystemExit("the first was due before the last was queued")
    _wait_stored(side, handles, 60, 0.2)
    late = [1000 * seconds for seconds in side.answers(handles)]
    if min(late) < -1:
        raise SystemExit(f"a task ran {-min(late):.1f} ms early")
    cuts = statistics.quantiles(late, n=100, method="inclusive")
    return {"p50": cuts[49], "p99": cuts[98], "max": max(late)}


def arrivals(side: Any, n: str, seconds: str) -> dict[str, float]:
    """Calls that come at their times, whether or not those before are done; by how many milliseconds
    tasks start after the time of their call, which a caller that is late does not move.

    At half and at four fifths of what caller and worker do together, which n calls without a pause tell.
    """
    begin = time.perf_counter()
    _wait_stored(side, side.send(int(n)), GIVE_UP_S)
    most = int(n) / (time.perf_counter() - begin)
    found = {"most": most}
    for name, share in (("half", 0.5), ("most_of_it", 0.8)):
        first, rate = time.time() + 0.1, share * most
        handles = []
        for due in (first + i / rate for i in range(int(rate * float(seconds)))):
            if (early := due - time.time()) > 0:
                time.sleep(early)
            handles.append(side.send_due(due))
        _wait_stored(side, handles, GIVE_UP_S)
        cuts = statistics.quantiles((1000 * late for late in side.answers(handles)), n=100)
        found |= {f"{name}_p50": cuts[49], f"{name}_p99": cuts[98]}
    return found


def again(side: Any, n: str) -> dict[str, float]:
    """Queue n tasks of some seconds, say so when all have started; after the go, wait until all have ended,
    and say when the last of those runs that count had started."""
    from benchmarks.contestants.keys import STARTED, client

    handles = side.send_naps(int(n))
    _wait(lambda: int(client().get(STARTED) or 0) == int(n), "tasks that start", 30)
    _say({"started": int(n)})
    _await_go()
    _wait_stored(side, handles, GIVE_UP_S)
    return {"started": max(side.answers(handles))}


def hold(side: Any, n: str) -> dict[str, float]:
    """Tasks due in an hour; until none of them is in the queue any more."""
    side.send_later([time.time() + 3600] * int(n))
    _wait(lambda: side.ready() == 0, "an empty queue", 120, 0.1)
    return {"held": side.left()}


def workflows(side: Any, n: str, links: str) -> dict[str, float]:
    """Group, chord and chain: milliseconds to send, and until the last result is here."""
    found = {}
    side.group(side.noop.s() for _ in range(10)).apply_async().get(timeout=60)

    begin = time.perf_counter()
    result = side.group(side.noop.s() for _ in range(int(n))).apply_async()
    found["group_send"] = (time.perf_counter() - begin) * 1000
    _expect(result.get(timeout=120), [None] * int(n))
    found["group"] = (time.perf_counter() - begin) * 1000

    begin = time.perf_counter()
    body = side.chord((side.noop.s() for _ in range(int(n))), side.tally.s()).apply_async()
    _expect(body.get(timeout=120), int(n))
    found["chord"] = (time.perf_counter() - begin) * 1000

    begin = time.perf_counter()
    last = side.chain([side.step.s(0), *(side.step.s() for _ in range(int(links) - 1))]).apply_async()
    _expect(last.get(timeout=120), int(links))
    found["chain"] = (time.perf_counter() - begin) * 1000
    return found


def _wait_stored(side: Contestant, handles: list[str], limit_s: float, look_s: float = LOOK_S) -> None:
    """Until each of these has its result. The last ones are asked for first: asking for all of them
    every time would be work for the server, in the time that is measured."""
    try:
        for part in (handles[-TAIL:], handles):
            _wait(lambda part=part: side.stored(part) == len(part), "results", limit_s, look_s)  # type: ignore[misc]
    except SystemExit as exc:
        raise SystemExit(f"{exc}: {side.stored(handles)} of {len(handles)}, {side.left()} left") from None


def _expect(found: Any, wanted: Any) -> None:
    if found != wanted:
        raise SystemExit(f"a workflow gave {found!r:.100}, not {wanted!r:.100}")


def _wait(is_done: Callable[[], bool], what: str, limit_s: float, look_s: float = LOOK_S) -> None:
    stop = time.monotonic() + limit_s
    while not is_done():
        if time.monotonic() > stop:
            raise SystemExit(f"waited {limit_s:.0f} s for {what}")
        time.sleep(look_s)


def _say(found: dict[str, Any]) -> None:
    print(json.dumps(found), flush=True)


def _await_go() -> None:
    if not sys.stdin.readline():
        raise SystemExit("nobody said go")


MEASURES: tuple[Callable[..., dict[str, Any]], ...] = (
    describe, workers, publish, together, bulk, tuples, trips, warm, fill, drain, backlog, lateness, arrivals,
    again, hold, workflows, take_in, remember, overhear,
)  # fmt: skip


def main(module: str, what: str, *words: str) -> None:
    for measure in MEASURES:
        if measure.__name__ == what:
            _say(measure(load(module), *words))
            return
    raise SystemExit(f"no measurement named '{what}'")


if __name__ == "__main__":
    main(*sys.argv[1:])
