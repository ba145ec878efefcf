"""`qctl worker --reload`: restart the worker whenever a source file is saved.

In:  the words of the command line.  Out: the exit code of the worker, once it ends by itself or on a signal.
The worker is a process of its own, so that no old code stays loaded. Changes are detected by polling file
times and sizes: no library is needed, every file system works. After this: the worker, without --reload.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from qctl import exit_codes
from qctl.cli.orphans import with_us
from qctl.cli.session import Session

#: seconds between two polls
LOOK_S = 0.25
#: seconds without a change after which a save is complete: a first write may leave an empty file
SETTLE_S = 0.05
#: seconds for a warm shutdown: running tasks may finish before the new code starts
WARM_S = 10.0
#: seconds for a cold shutdown
COLD_S = 5.0
#: exit codes of a worker that was asked to stop
STOPPED = (exit_codes.OK, exit_codes.NOT_FOUND)

Times = dict[Path, tuple[int, int]]


def run(session: Session) -> int:
    """Run this command line's worker, restart it on changes; return its exit code. Raises CommandError."""
    session.settle()
    session.needs_app("a worker")
    if "app" in session.__dict__:
        raise exit_codes.CommandError(
            exit_codes.USAGE, "--reload starts processes, so it needs an app that -A can name"
        )
    words = [w for w in session.argv if w != "--reload"]
    return Reloader(session, words, Path(session.options.workdir or ".").absolute()).run()


class Reloader:
    """Runs and restarts one worker process."""

    def __init__(self, session: Session, words: list[str], place: Path) -> None:
        self._warn = session.out.warn
        self._words, self._place = words, place
        self._child: subprocess.Popen[bytes] | None = None
        self._signal: int | None = None

    def run(self) -> int:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, self._forward)
        seen, first = times(self._place), True
        self._warn(f"a save of any .py file below {self._place} restarts the worker")
        self._start()
        while True:
            time.sleep(LOOK_S)
            code = self._ended()
            if code is not None and (first or code in STOPPED or self._signal is not None):
                return code
            if code is not None:
                self._warn(f"the worker ended with code {code}; the next save restarts it")
                self._child = None
            now = settled(self._place, seen)
            changed = sorted(p for p in now.keys() | seen.keys() if now.get(p) != seen.get(p))
            seen, first = now, first and not changed
            if changed and self._is_code(changed):
                self._warn(f"{changed[0].relative_to(self._place)} was saved; the worker restarts")
                self._stop()
                if self._signal is not None:
                    return self._ended() or exit_codes.OK
                self._start()

    def _is_code(self, changed: list[Path]) -> bool:
        """Whether the saved files compile; prints the error otherwise, and the running worker goes on."""
        for path in changed:
            try:
                compile(path.read_bytes(), str(path), "exec")
            except FileNotFoundError:
                continue
            except (SyntaxError, ValueError, OSError) as exc:
                where = path.relative_to(self._place)
                line = f", line {exc.lineno}" if isinstance(exc, SyntaxError) and exc.lineno else ""
                why = exc.msg if isinstance(exc, SyntaxError) else str(exc)
                goes = "no worker runs" if self._child is None else "the worker continues with the old code"
                self._warn(f"{where}{line}: {why}; {goes} until the next save")
                return False
        return True

    def _start(self) -> None:
        # Compiled files are compared by whole seconds, and two saves may share a second.
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "qctl", *self._words]
        # In its own process group the worker gets each signal once, from this process.
        self._child = subprocess.Popen(command, env=with_us(env), process_group=0)

    def _stop(self) -> None:
        child = self._child
        if child is None:
            return
        for number, patience in (
            (signal.SIGTERM, WARM_S),
            (signal.SIGQUIT, COLD_S),
            (signal.SIGKILL, COLD_S),
        ):
            if child.poll() is not None:
                break
            child.send_signal(number)
            try:
                child.wait(patience)
            except subprocess.TimeoutExpired:
                self._warn(
                    f"the worker still runs tasks after {patience:g} s; they are returned to their queue"
                )

    def _ended(self) -> int | None:
        """The exit code of the worker; None while it runs, or before the next start."""
        if self._child is None:
            return None if self._signal is None else exit_codes.TERMINATED
        code = self._child.poll()
        return 128 - code if code is not None and code < 0 else code

    def _forward(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(number)


def times(place: Path) -> Times:
    """Modification time and size of each .py file below; hidden directories and environments are skipped."""
    return {path: (s.st_mtime_ns, s.st_size) for path, s in _files(place)}


def settled(place: Path, seen: Times) -> Times:
    """The file times once they no longer change; `seen` are the previous ones."""
    now = times(place)
    while now != seen:
        time.sleep(SETTLE_S)
        seen, now = now, times(place)
    return now


def _files(place: Path) -> Iterator[tuple[Path, os.stat_result]]:
    try:
        entries = list(os.scandir(place))
    except OSError:
        return
    if any(entry.name == "pyvenv.cfg" for entry in entries):
        return
    for entry in entries:
        try:
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith(".") and entry.name not in ("__pycache__", "node_modules"):
                    yield from _files(Path(entry.path))
            elif entry.name.endswith(".py"):
                yield Path(entry.path), entry.stat()
        except OSError:
            continue  # deleted during the scan
