"""Change many items, batch by batch: the common part of all bulk commands.

In:  chosen items, and a function that changes one batch.  Out: a confirmation with counts and samples,
progress, the outcome of each item, and an exit code.
Ctrl-C stops between two batches. No state is kept: a changed item no longer matches, so the same command
continues with the rest.
"""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import click

from qcore.errors import BrokerError
from qctl import exit_codes
from qctl.cli.confirm import ask
from qctl.cli.types import Kind
from qctl.output.table import Column
from qctl.output.text import age, count, shown
from qctl.output.writer import Output

AT_ONCE = 100
SAMPLES = 5
#: rows of the table of chosen items; the rest is counted in one row
GROUPS = 20
PROGRESS_EVERY_S = 0.2
#: longest sleep between two checks for an interrupt, seconds
LOOK_S = 0.05


class Item(NamedTuple):
    """A chosen item."""

    id: str
    task: str
    queue: str


class Done(NamedTuple):
    """The outcome of an item: `word` is the verb's participle, or the reason why nothing was done."""

    item: Item
    word: str
    fields: Mapping[str, Any] = {}


class Rate(Kind):
    """A rate such as 50/s or 600/m; becomes a number per second."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        from qcore.base.times import per_second

        try:
            return per_second(value)
        except ValueError as exc:
            raise click.BadParameter(str(exc), ctx=ctx, param=param) from None


class Chosen:
    """The items that a filter chose, their counts by task and queue, and a few samples as text."""

    def __init__(self, items: Sequence[Item], samples: Sequence[str]) -> None:
        """samples: one line each for a few of the items."""
        self.items, self.samples = items, samples[:SAMPLES]
        self.spread = Counter((item.task, item.queue) for item in items)

    def __len__(self) -> int:
        return len(self.items)

    def describe(self, out: Output, noun: str) -> None:
        """Print counts by task and queue on stderr, with samples."""
        for (task, queue), number in self.spread.most_common(GROUPS):
            out.note(f"  {number:>8,}  {task}  in {queue}")
        more = len(self.spread) - GROUPS
        if more > 0:
            out.note(f"            and {count(more, 'more kind')}")
        out.note("such as" if len(self) > len(self.samples) else f"the {noun}s:")
        for sample in self.samples:
            out.note(f"  {sample}")


class Bulk:
    """One bulk command."""

    def __init__(
        self,
        out: Output,
        schema: str,
        noun: str,
        done: str,
        *,
        rate: float | None = None,
        harmless: Sequence[str] = (),
    ) -> None:
        """noun, done: 'failed task', 'retried'. rate: at most this many per second. harmless: outcomes that
        are no success, but keep the exit code at 0."""
        self.out, self.schema, self.noun, self.done = out, schema, noun, done
        self.rate, self.harmless = rate, (done, *harmless)
        self.words: Counter[str] = Counter()
        self._spread: Counter[tuple[str, str, str]] = Counter()
        self._items: list[dict[str, Any]] = []
        self._stopped = False
        self._said_at = 0.0

    def run(
        self,
        chosen: Chosen,
        change: Callable[[Sequence[Item]], Sequence[Done]],
        yes: bool,
        dry_run: bool,
    ) -> int:
        """Confirm, change, report; return the exit code. Raises CommandError if refused or interrupted."""
        if not len(chosen):
            raise exit_codes.CommandError(
                exit_codes.NOT_FOUND, f"no {self.noun} matches", "see `qctl help filters`"
            )
        if dry_run or not yes:
            chosen.describe(self.out, self.noun)
        if dry_run:
            self._note([Done(item, "nothing") for item in chosen.items])
            self._print(dry_run=True)
            self.out.note(f"{count(len(chosen), self.noun)} would be {self.done} (--dry-run)")
            return exit_codes.OK
        ask(count(len(chosen), self.noun), self.done, yes)
        began = time.monotonic()
        try:
            with self._interruptible():
                self._change_all(chosen.items, change, began)
        except BrokerError:
            self._print()
            self.summary(len(chosen), began)
            raise
        self._print()
        self.summary(len(chosen), began)
        if self._stopped:
            raise exit_codes.CommandError(
                exit_codes.INTERRUPTED, "interrupted", "run the same command again to continue with the rest"
            )
        return self.code()

    def code(self) -> int:
        """The exit code, from the outcomes of the items."""
        return exit_codes.OK if set(self.words) <= set(self.harmless) else exit_codes.PARTIAL

    # --- doing

    def _change_all(
        self, items: Sequence[Item], change: Callable[[Sequence[Item]], Sequence[Done]], began: float
    ) -> None:
        size = AT_ONCE if self.rate is None else max(1, min(AT_ONCE, int(self.rate / 10)))
        for start in range(0, len(items), size):
            if self.rate is not None:
                self._sleep_until(began + start / self.rate)
            if self._stopped:
                return
            self._note(change(items[start : start + size]))
            self._progress(len(items), began)

    def _sleep_until(self, moment: float) -> None:
        while not self._stopped and (left := moment - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_S))

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """The first Ctrl-C stops between two batches, the second one immediately."""

        def stop(signum: int, frame: object) -> None:
            if self._stopped:
                raise KeyboardInterrupt
            self._stopped = True

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
            self._erase_progress()

    # --- saying

    def _note(self, done: Sequence[Done]) -> None:
        keep, lines = not self.out.for_people, []
        for one in done:
            self.words[one.word] += 1
            self._spread[one.item.task, one.item.queue, one.word] += 1
            if keep:
                lines.append({**one.item._asdict(), "done": one.word, **one.fields})
        if self.out.format == "ndjson":
            self.out.objects(lines)
        else:
            self._items += lines

    def _print(self, **more: Any) -> None:
        if self.out.for_people:
            columns = [Column("TASK"), Column("QUEUE"), Column("DONE"), Column("COUNT", True)]
            rows = [[*key, str(number)] for key, number in sorted(self._spread.items())]
            self.out.table(columns, rows)
        elif self.out.format != "ndjson":
            columns = [Column("ID"), Column("TASK"), Column("QUEUE"), Column("DONE")]
            rows = [[str(i[k]) for k in ("id", "task", "queue", "done")] for i in self._items]
            self.out.items(self.schema, self._items, columns, rows, "id", **more)

    def summary(self, total: int, began: float) -> None:
        """Print the counts of the outcomes."""
        took_s = time.monotonic() - began
        others = [f"{n:,} {word.replace('_', ' ')}" for word, n in self.words.items() if word != self.done]
        text = f"{self.words[self.done]:,} of {count(total, self.noun)} {self.done} in {age(took_s)}"
        left = total - self.words.total()
        self.out.note("; ".join([text, *others, *([f"{left:,} not examined"] if left else [])]))

    def _progress(self, total: int, began: float) -> None:
        now = time.monotonic()
        if not self._shows_progress() or now - self._said_at < PROGRESS_EVERY_S:
            return
        self._said_at = now
        seen = self.words.total()
        sys.stderr.write(f"\r{seen:,} of {total:,}, {seen / max(now - began, 0.001):,.0f}/s\x1b[K")
        sys.stderr.flush()

    def _shows_progress(self) -> bool:
        return sys.stderr.isatty() and self.out.for_people and not self.out.options.quiet

    def _erase_progress(self) -> None:
        if self._said_at:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def sample(*parts: str, wide: int = 140) -> str:
    """Facts about one item, in one line of at most `wide` characters."""
    text = "  ".join(shown(part) for part in parts if part)
    return text if len(text) <= wide else f"{text[: wide - 1]}…"
