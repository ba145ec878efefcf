"""A temporary broker for the simulated fleet, for as long as a command runs.

In:  a session, sizes.  Out: the session uses a new SQLite file, to which a separate process publishes the
fleet's events, so that the simulation costs the command no time. After this: fleet_publisher.py.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qctl import exit_codes
from qctl.cli.session import Session

STOP_S = 3.0


@contextmanager
def on_stage(session: Session, workers: int, rate: float) -> Iterator[None]:
    """Replace the session's broker and settings with the demonstration's. Raises CommandError on failure."""
    with tempfile.TemporaryDirectory(prefix="qctl-demo-", ignore_cleanup_errors=True) as folder:
        url = f"sqlite:///{Path(folder) / 'broker.sqlite'}"
        session.without_layers()
        session.options.broker, session.options.app, session.options.result_backend = url, None, None
        words = [
            "-m",
            "qctl.commands.demo.fleet_publisher",
            url,
            "--workers",
            str(workers),
            "--rate",
            str(rate),
        ]
        fleet = subprocess.Popen(
            [sys.executable, *words, "--with-us"], stdout=subprocess.PIPE, stdin=subprocess.PIPE
        )
        try:
            if fleet.stdout is None or fleet.stdout.readline() != b"ready\n":
                raise exit_codes.CommandError(
                    exit_codes.UNAVAILABLE, "the demonstration's fleet did not start"
                )
            yield
        finally:
            fleet.terminate()
            try:
                fleet.communicate(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                fleet.kill()
                fleet.wait()
