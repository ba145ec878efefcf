"""Run a command of qctl for the dashboard, in the background.

In:  the words of a command.  Out: what it said.  It is a process of its own, so that the screen stays as
quick as it was; the broker's address travels in its environment, not in its words.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from qcore.app import App

if TYPE_CHECKING:
    import click

PATIENCE_S = 30.0


class Did(NamedTuple):
    """How a command ended: whether it did what was asked, its last remark, and its whole answer."""

    ok: bool
    said: str
    text: str = ""


def do(app: App, words: Sequence[str], extra: Sequence[str] = ()) -> Did:
    """Run `qctl WORDS` on the app's broker; extra: global options such as --context."""
    env = {**os.environ, "QCTL_BROKER_URL": app.broker_url(), "NO_COLOR": "1"}
    if app.conf.result_backend:
        env["QCTL_RESULT_BACKEND"] = str(app.conf.result_backend)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "qctl", *extra, *words],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return Did(False, str(exc))
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    said = lines[-1].removeprefix("qctl: ") if lines else "done"
    return Did(done.returncode == 0, said, "\n".join(filter(None, (done.stdout, done.stderr))))


def command_of(root: click.Command | None, words: Sequence[str]) -> click.Command | None:
    """The command that these words call; None: there is none, or the words end at a group."""
    import click

    command = root
    for word in words:
        if not isinstance(command, click.Group):
            break
        command = command.get_command(click.Context(command), word)
    return None if isinstance(command, click.Group) else command


def has_option(command: click.Command | None, option: str) -> bool:
    """Whether a command takes this option."""
    return command is not None and any(option in p.opts for p in command.params)
