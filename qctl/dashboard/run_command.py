"""Run a command of qctl for the dashboard, in the background.

In:  the words of a command.  Out: its result.  It runs as a process of its own, so that the screen stays
responsive; the broker's address is passed in its environment, not in its arguments.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from qcore.app.app import App

if TYPE_CHECKING:
    import click

PATIENCE_S, TELL_S = 30.0, 1.0


class CommandResult(NamedTuple):
    """The result of a command: whether it succeeded, its last remark, and its whole output."""

    ok: bool
    summary: str
    text: str = ""


class Running:
    """A running command. Raises OSError when it cannot be started."""

    def __init__(
        self, app: App, words: Sequence[str], extra: Sequence[str] = (), is_program: bool = False
    ) -> None:
        """`qctl WORDS` at the app's broker; extra: global options such as --context.

        is_program: the words are a program and its arguments, which no shell reads; `qctl` is this one.
        """
        env = {**os.environ, "QCTL_BROKER_URL": app.broker_url(), "NO_COLOR": "1"}
        if app.conf.result_backend:
            env["QCTL_RESULT_BACKEND"] = str(app.conf.result_backend)
        argv = [sys.executable, "-m", "qctl", *extra, *words]
        if is_program:
            argv = [sys.executable, "-m", "qctl", *extra, *words[1:]] if words[0] == "qctl" else list(words)
        self.words = tuple(words)
        self._cancelled = False
        self._process = subprocess.Popen(
            argv,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )

    @property
    def code(self) -> int | None:
        """The exit code of the command; None while it runs."""
        return self._process.returncode

    def cancel(self) -> None:
        """Interrupt the command as Ctrl-C does: it finishes the current message."""
        self._cancelled = True
        self._process.send_signal(signal.SIGINT)

    def wait(
        self, limit_s: float | None = None, tell: Callable[[float], None] = lambda seconds: None
    ) -> CommandResult:
        """The result of the command. limit_s: seconds after which it is killed; None: no time-out. tell:
        called every second with the seconds passed."""
        started = time.monotonic()
        while True:
            try:
                out, err = self._process.communicate(timeout=min(TELL_S, limit_s or TELL_S))
                break
            except subprocess.TimeoutExpired:
                passed = time.monotonic() - started
            if limit_s is not None and passed >= limit_s:
                self._process.kill()
                self._process.communicate()
                return CommandResult(False, f"it ran longer than {limit_s:g} s and was stopped")
            tell(passed)
        lines = [line.strip() for line in (err or out).splitlines() if line.strip()]
        summary = lines[-1].removeprefix("qctl: ") if lines else "done"
        if self._cancelled and self._process.returncode:
            summary = f"cancelled after {time.monotonic() - started:.0f} s; changes made by then remain"
        return CommandResult(self._process.returncode == 0, summary, "\n".join(filter(None, (out, err))))


def answer(app: App, words: Sequence[str], extra: Sequence[str] = ()) -> CommandResult:
    """The result of a command that changes nothing, within PATIENCE_S, since the user waits for it."""
    try:
        return Running(app, words, extra).wait(PATIENCE_S)
    except OSError as exc:
        return CommandResult(False, f"cannot start Python: {exc.strerror}")


def command_of(root: click.Command | None, words: Sequence[str]) -> click.Command | None:
    """The click command that these words call; None: it does not exist, or the words end at a group."""
    import click

    command = root
    for word in words:
        if not isinstance(command, click.Group):
            break
        command = command.get_command(click.Context(command), word)
    return None if isinstance(command, click.Group) else command


def has_option(command: click.Command | None, option: str) -> bool:
    """Whether the command takes this option."""
    return command is not None and any(option in p.opts for p in command.params)
