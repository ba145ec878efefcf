"""Preconditions of a settlement: other results, and the counts of chords, stored before it.

In:  settlements with a `before`.  Out: the same, ready to settle; bodies of complete chords are published.
A member's result is stored, the member is counted, the body is published, and only then is the member
acknowledged: after a crash in between, the member is redelivered and the steps continue. Where the result
store is the broker, one step publishes the body and marks the chord as done, so the body is published
once. Elsewhere a crash between the two publishes it twice, with the same id.
Before this: worker/settling/rules.py.  After this: brokers/X, settle().
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qcore.base.crashpoints import crashpoint
from qcore.brokers.contract.records import FullChord, Message, Settlement, StoredResult
from qcore.errors import BrokerError, ConfigError, Malformed, ResultsNotKept, Unroutable, Unsupported
from qcore.execution import continuations
from qcore.execution.continuations import Continuations
from qcore.results.base import ResultStore
from qcore.wire import result as result_wire
from qcore.wire import task as task_wire
from qcore.wire.content import from_json
from qcore.wire.outcome import ChordPart, Preconditions
from qcore.wire.task import TaskMessage

if TYPE_CHECKING:
    from qcore.app.app import App

log = logging.getLogger("qcore.worker")


class Chords:
    """The chords of one worker's tasks. Only the loop's thread calls it."""

    def __init__(self, app: App, results: ResultStore, ttl_s: float | None) -> None:
        self.app, self.results, self.ttl_s = app, results, ttl_s
        self._said = False

    def consequences(
        self, message: TaskMessage, state: str, error: BaseException
    ) -> tuple[tuple[Message, ...], Preconditions | None]:
        """The messages and preconditions that follow from a task that was refused, revoked or killed."""
        try:
            embed = task_wire.read_body(message, frozenset(self.app.conf.accept_content)).embed
            if not any(embed.values()):
                return (), None
            data = result_wire.exception_data(error)
            found = continuations.failed(embed, message, self.app, state, data)
        except (Malformed, ConfigError, TypeError) as exc:
            log.error("the follow-up messages of %s[%s] cannot be read: %s", message.task, message.id, exc)
            return (), None
        except Exception:
            log.exception("the apply_async() of the project for what follows %s raised", message.id)
            return (), None
        return tuple(found.messages), found.before

    def before(self, batch: Sequence[Settlement]) -> None:
        """Carry out the preconditions of these settlements. After BrokerDown the call may be repeated."""
        waiting = [s for s in batch if s.before is not None]
        if not waiting:
            return
        results = [s.result for s in waiting if s.result is not None]
        sizes: list[tuple[str, int]] = []
        headers: list[tuple[str, list[Any]]] = []
        parts: list[ChordPart] = []
        for s in waiting:
            assert s.before is not None
            results += self._stored(s.before)
            sizes += s.before.sizes
            headers += s.before.headers
            parts += s.before.parts
        try:
            self._make_durable(results, sizes, headers)
            while parts:
                full = self.results.chord_parts(parts, self.app.chord_ttl_s())
                if any(full):
                    crashpoint("chord_complete")
                found = zip(parts, full, strict=True)
                parts = [after for part, chord in found if chord for after in self._send_body(part, chord)]
        except (Unsupported, ResultsNotKept) as exc:
            if not self._said:
                self._said = True
                log.error("a chord cannot run here: %s", exc)
        for s in waiting:
            s.before = None

    def _stored(self, before: Preconditions) -> list[StoredResult]:
        return [StoredResult(task_id, meta, self.ttl_s) for task_id, meta in before.results]

    def _make_durable(
        self,
        results: list[StoredResult],
        sizes: list[tuple[str, int]],
        headers: Sequence[tuple[str, list[Any]]] = (),
    ) -> None:
        if results and self.results.keeps:
            self.results.store(results)
        if sizes:
            self.results.chord_sizes(sizes, self.app.chord_ttl_s())
        if headers:
            self.results.chord_headers(headers)

    def _send_body(self, part: ChordPart, full: FullChord) -> list[ChordPart]:
        """Publish the body of a complete chord, or fail it. Returns the parts of an outer chord that this
        completes."""
        body = from_json(part.body)
        try:
            entries = [self._entry(entry) for entry in full.entries]
            bad = next((e for e in entries if e[2] in result_wire.PROPAGATE_STATES), None)
            if bad is not None:
                return self._fail(body, part, f"Dependency {bad[1]} raised {_shown(bad[3])}", bad[3])
            value = self._shaped(full, entries)
            sent = continuations.body(body, value, part, self.app)
            if sent.before is not None:
                self._make_durable(self._stored(sent.before), sent.before.sizes, sent.before.headers)
            if not self._publish(full, sent):
                log.info("the body of chord %s was sent by another worker", full.group)
        except (Unroutable, ConfigError, Malformed, TypeError, ValueError, LookupError) as exc:
            return self._fail(body, part, f"Callback error: {exc!r}")
        except BrokerError:
            raise
        except Exception as exc:
            log.exception("the apply_async() of the project for the body of chord %s raised", full.group)
            return self._fail(body, part, f"Callback error: {exc!r}")
        return []

    def _entry(self, raw: bytes) -> list[Any]:
        """[1, id, state, result] of a member, an exception as data. Raises Malformed."""
        version, task_id, state, result = self.app.result_form.loads(raw)
        return [version, task_id, state, result_wire.exception_stored(result)]

    def _publish(self, full: FullChord, sent: Continuations) -> bool:
        if self.results.in_broker:
            return self.results.chord_done(full, sent.messages)
        self.app.broker.publish(sent.messages)
        return self.results.chord_done(full)

    def _shaped(self, full: FullChord, entries: list[Any]) -> list[Any]:
        """The list of results for the body; nested groups of the header become nested lists."""
        values = {entry[1]: entry[3] for entry in entries}
        if full.shape is None:
            return [entry[3] for entry in entries]

        def value(node: Any) -> Any:
            (task_id, _), members = node
            return values[task_id] if members is None else [value(member) for member in members]

        return [value(member) for member in self.app.result_form.loads(full.shape)["result"][1]]

    def _fail(
        self, body: dict[str, Any], part: ChordPart, why: str, cause: dict[str, Any] | None = None
    ) -> list[ChordPart]:
        """As in Celery: store a ChordError as the body's result, `cause` as that of each member of a
        group, and publish their errbacks."""
        log.error("chord %s: %s", part.group, why)
        error = {"exc_type": "ChordError", "exc_message": [why], "exc_module": "celery.exceptions"}
        if isinstance(cause, dict) and continuations.stands_for_group(body):
            error = cause
        found = continuations.body_failed(
            body, self.app, error, f"celery.exceptions.ChordError: {why}\n", part.root_id
        )
        if found.before is not None:
            self._make_durable(self._stored(found.before), [])
        try:
            if found.messages:
                self.app.broker.publish(found.messages)
        except Unroutable as exc:
            log.error("an errback of chord %s was not sent: %s", part.group, exc)
        self.results.chord_failed(part.group)
        return found.before.parts if found.before is not None else []


def _shown(error: Any) -> str:
    """The repr of an exception in its stored form."""
    if not isinstance(error, dict):
        return repr(error)
    words = error.get("exc_message")
    shown = ", ".join(map(repr, words)) if isinstance(words, list | tuple) else repr(words)
    return f"{error.get('exc_type')}({shown})"
