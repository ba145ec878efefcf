"""`qctl events --dump`: one aligned line, or one JSON object, for each event.

In:  events, from the broker or a recording.  Out: lines, each flushed at once.  Names are kept from earlier
events, because Celery's later events of a task carry only its id. Missed events get a line of their own, a
gap; so does the time in which the broker was unreachable, during which the command reconnects.
"""

from __future__ import annotations

import fnmatch
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple

from qcore.errors import BrokerError
from qctl import exit_codes
from qctl.fleet.event_record import record_of
from qctl.output import state_styles, yaml
from qctl.output.secrets import hide
from qctl.output.text import count, cut, pad, shown, stamp

if TYPE_CHECKING:
    from qcore.events.state import State
    from qcore.wire.event import Event
    from qctl.cli.session import Session
    from qctl.filters import Filter

#: fields that the head of the line shows, or that only programs need
_IN_HEAD = frozenset(
    "type hostname timestamp uuid name utcoffset pid clock seq root_id parent_id traceback".split()
)
#: the fields of an event in csv and tsv
FIELDS = ("timestamp", "hostname", "type", "uuid", "name")
NODE_CELLS, KIND_CELLS = 20, 16
#: the type of qctl's own event: events were missed
GAP = "gap"
RETRY_S = (0.5, 1.0, 2.0)


class Choice(NamedTuple):
    """Which events to print, and when to end."""

    kinds: tuple[str, ...] = ()
    limit: int | None = None
    duration_s: float | None = None
    tasks: Filter | None = None  # only events of these tasks, judged by what is known of a task at that time

    def takes(self, event: Event, state: State) -> bool:
        if self.kinds and not any(fnmatch.fnmatchcase(event["type"], k) for k in self.kinds):
            return False
        if self.tasks is None:
            return True
        seen = state.table.get(str(event.get("uuid")))
        return seen is not None and self.tasks.matches(record_of(seen, time.time()))

    def is_nameless(self, event: Event, state: State) -> bool:
        """Whether it is left out, and the name of its task is unknown: only task-received tells it."""
        if self.tasks is None or not isinstance(event.get("uuid"), str):
            return False
        seen = state.table.get(event["uuid"])
        return not (seen and seen.name) and self._replace(tasks=None).takes(event, state)


class RecordingOptions(NamedTuple):
    """A recording to write, and a recording to read instead of the broker."""

    record: str | None = None
    replay: str | None = None
    speed: float = 1.0


def dump(session: Session, chosen: Choice, recording: RecordingOptions, max_tasks: int) -> int:
    """Print events until the limit, the duration, the recording's end or Ctrl-C; return the exit code."""
    from qcore.events.history.reading import replay
    from qcore.events.recording import Recorder
    from qcore.events.state import State

    state = State(max_tasks)
    recorder: Recorder | None = None
    missed: dict[str, int] = {}
    deadline = None if chosen.duration_s is None else time.monotonic() + chosen.duration_s
    printed, nameless, unreadable = 0, 0, Counter[str]()
    if session.out.format == "csv":
        session.out.records([], FIELDS)
        session.options.listing.headers = False  # one heading for all events
        session.options.listing.columns = list(FIELDS)
    try:
        source = (
            replay(recording.replay, recording.speed)
            if recording.replay
            else nullcontext(live_batches(session, unreadable))
        )
        with exit_codes.sigterm_like_ctrl_c() if recording.record else nullcontext(), source as batches:
            for batch in batches:
                if recording.record and recorder is None:  # not earlier: no file without a broker
                    recorder = Recorder(recording.record)
                if recorder is not None:
                    recorder.write(batch, time.time())
                for event in batch:
                    state.event(event)
                    if (gap := _gap(event, state, missed)) is not None:
                        _write(session, gap, state)
                    if event["type"] == GAP:
                        _write(session, event, state)
                    elif chosen.takes(event, state):
                        _write(session, event, state)
                        printed += 1
                        if chosen.limit is not None and printed >= chosen.limit:
                            return exit_codes.OK
                    elif chosen.is_nameless(event, state):
                        nameless += 1
                _notice_a_lost_reader()
                if deadline is not None and time.monotonic() >= deadline:
                    break
    except KeyboardInterrupt:
        pass
    except FileExistsError:
        words = f"'{recording.record}' exists, and is not overwritten"
        raise exit_codes.CommandError(exit_codes.REFUSED, words, "name another file, or remove it") from None
    finally:
        if recorder is not None:
            recorder.close()
    lost = sum(missed.values())
    parts = [count(printed, "event")]
    parts += [f"{lost} lost"] if lost else []
    parts += [f"{nameless} left out, of tasks received before, whose names are unknown"] if nameless else []
    parts += [f"{unreadable['messages']} unreadable"] if unreadable else []
    session.out.note("; ".join(parts))
    if recorder is not None:
        session.out.note(f"{count(recorder.events, 'event')} recorded in {recorder.path}")
    return exit_codes.OK


def live_batches(session: Session, unreadable: Counter[str]) -> Iterator[list[Event]]:
    """Batches of events from now on. Reconnects to an unreachable broker, then yields a gap event with the
    time since the last event. Raises BrokerDown when the first connection fails."""
    from qcore.events.receiver import listen

    received_at: float | None = None  # epoch seconds
    failed = 0
    while True:
        try:
            with listen(
                session.broker,
                exchange=session.app.conf.event_exchange,
                serializer=session.app.conf.event_serializer,
                on_unreadable=lambda number: unreadable.update(messages=number),
            ) as batches:
                session.out.note("listening again" if failed else "listening; Ctrl-C ends")
                if received_at is not None:
                    now, why = time.time(), "the broker was unreachable"
                    yield [
                        {
                            "type": GAP,
                            "hostname": "qctl",
                            "timestamp": now,
                            "since": received_at,
                            "reason": why,
                        }
                    ]
                failed, received_at = 0, time.time()
                for batch in batches:
                    yield batch
                    received_at = time.time()
        except BrokerError as exc:
            if received_at is None:
                raise  # the first connection failed: most likely a wrong address
            if not failed:
                session.out.warn(f"{exc}; trying again")
            yield []  # lets the caller check its deadline
            time.sleep(RETRY_S[min(failed, len(RETRY_S) - 1)])
            failed += 1


def _gap(event: Event, state: State, missed: dict[str, int]) -> Event | None:
    """A gap event for events of this event's sender that never arrived; None without new ones."""
    node = event["hostname"]
    worker = state.workers.get(node)
    if worker is None or worker.missed == missed.get(node, 0):
        return None
    count = worker.missed - missed.get(node, 0)
    missed[node] = worker.missed
    return {"type": GAP, "hostname": node, "timestamp": event["timestamp"], "missed": count}


def _write(session: Session, event: Event, state: State) -> None:
    out = session.out
    if out.as_objects:
        out.objects([hide(event)])
    elif out.format == "name":
        out.line(shown(event["type"]))
    elif out.for_people:
        out.line(line(event, state, out.colour))
    elif out.format == "yaml":
        sys.stdout.write("---\n" + yaml.dump(hide(event)))
    else:
        # Events differ in their fields, so a field that this event lacks is no error.
        template = out.chosen.template
        wanted = template.fields if template else out.chosen.fields or FIELDS
        out.records([{**dict.fromkeys(wanted), **hide(event)}], wanted)
    sys.stdout.flush()


def line(event: Event, state: State, colour: bool) -> str:
    """One event as a line: time, node, type, task, the other fields."""
    from qcore.events.store.table import STATE_OF

    kind = event["type"]
    head = [stamp(event["timestamp"]), pad(cut(shown(event["hostname"]), NODE_CELLS), NODE_CELLS)]
    bad = ("task-failed", "task-retried", "task-revoked")
    ansi = state_styles.look(STATE_OF[kind]).ansi if kind in bad else "33" if kind == GAP else ""
    head.append(state_styles.paint(pad(shown(kind), KIND_CELLS), ansi, colour))
    uuid = event.get("uuid")
    if isinstance(uuid, str):
        seen = state.tasks.get(uuid)
        head.append(f"{shown((seen and seen.name) or '?')}[{shown(uuid)}]")
    rest = [f"{shown(str(k))}={_value(hide(v, str(k)))}" for k, v in event.items() if k not in _IN_HEAD]
    return "  ".join([*head, " ".join(r for r in rest if not r.endswith("=-"))]).rstrip()


def _value(value: object) -> str:
    if value is None:
        return "-"
    return shown(f"{value:.6g}" if isinstance(value, float) else str(value))


def _notice_a_lost_reader() -> None:
    """Raise BrokenPipeError when stdout's reader is gone, so that `| head -1` ends before the next event."""
    import select

    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLERR)
        gone = any(flags & (select.POLLERR | select.POLLHUP) for _, flags in poll.poll(0))
    except (OSError, ValueError, AttributeError):
        return  # stdout is no file here (a test)
    if gone and not os.isatty(sys.stdout.fileno()):
        raise BrokenPipeError
