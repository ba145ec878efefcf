"""Run a command of qctl for the dashboard, in the background.

In:  the words of a command.  Out: what it said, in one line.  It is a process of its own, so that the
screen stays as quick as it was; the broker's address travels in its environment, not in its words.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

from qcore.app import App

PATIENCE_S = 30.0


class Did(NamedTuple):
    """How a command ended."""

    ok: bool
    said: str


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
    return Did(done.returncode == 0, lines[-1].removeprefix("qctl: ") if lines else "done")
