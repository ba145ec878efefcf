"""The steps of `qctl demo`: each is a command that is printed, run as a process, and checked.

In:  nothing.  Out: commands and their output on stdout; 0 when every check holds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from qctl import exit_codes
from qctl.cli.orphans import with_us
from qctl.cli.session import Session
from qctl.output import state_styles

START_S = 15.0
STEP_S = 20.0


class Step(NamedTuple):
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


class Demo:
    """One demonstration in its own directory."""

    def __init__(self, session: Session, place: Path) -> None:
        self.place, self.colour = place, session.out.colour
        env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("QCTL_", "CELERY_"))},
            "QCTL_BROKER_URL": f"sqlite:///{place}/broker.sqlite",
            "QCTL_CONFIG": str(place),  # ignore the user's contexts
            "QCTL_READ_ONLY": "0",
            "PYTHONUNBUFFERED": "1",
        }
        self.env = with_us(env)
        self.wrong: list[str] = []
        self.worker: subprocess.Popen[bytes] | None = None

    def write_line(self, text: str = "", ansi: str = "") -> None:
        sys.stdout.write(state_styles.paint(text, ansi, self.colour) + "\n")
        sys.stdout.flush()

    def process(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "qctl", *words]

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Print a command and start it; its output goes to a file."""
        self.write_line(f"$ qctl {show(words)} &", "1")
        with (self.place / f"{len(list(self.place.iterdir()))}.log").open("wb") as log:
            return subprocess.Popen(self.process(*words), env=self.env, stdout=log, stderr=log)

    def step(self, why: str, words: tuple[str, ...], check: Callable[[Step], bool]) -> Step:
        """Print a command, run it, print its output, check it."""
        self.write_line()
        self.write_line(f"# {why}", "90")
        self.write_line(f"$ qctl {show(words)}", "1")
        try:
            done = subprocess.run(
                self.process(*words),
                env=self.env,
                capture_output=True,
                text=True,
                timeout=STEP_S,
                check=False,
            )
            found = Step(done.returncode, done.stdout, done.stderr)
        except subprocess.TimeoutExpired:
            found = Step(exit_codes.TIMED_OUT, "", f"no answer within {STEP_S:g} s\n")
        sys.stdout.write(found.out)
        self.write_line(found.err.rstrip(), "90") if found.err.strip() else None
        if not check(found):
            self.wrong.append(show(words))
            self.write_line(f"(unexpected; exit code {found.code})", "31")
        return found

    def wait_until_online(self) -> bool:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.worker is not None and self.worker.poll() is None:
            done = subprocess.run(
                self.process("status", "-q"), env=self.env, capture_output=True, timeout=STEP_S, check=False
            )
            if done.returncode == exit_codes.OK:
                return True
            time.sleep(0.1)
        return False


def show(words: tuple[str, ...]) -> str:
    """A command line, quoted for a shell."""
    plain = "+-_./:@=%,"
    return " ".join(w if w and all(c.isalnum() or c in plain for c in w) else f"'{w}'" for w in words)


def run(session: Session, keep: bool = False) -> int:
    """Run the demonstration; return the exit code. Raises CommandError when a step fails."""
    place = Path(tempfile.mkdtemp(prefix="qctl-demo-"))
    demo = Demo(session, place)
    try:
        demo.write_line(f"An embedded broker for this demonstration: {demo.env['QCTL_BROKER_URL']}", "90")
        demo.write_line("(exported as QCTL_BROKER_URL)", "90")
        demo.worker = demo.start(*_app(), "worker", "-n", "demo@%h", "-c", "2")
        if not demo.wait_until_online():
            log = "\n".join(p.read_text(errors="replace") for p in place.glob("*.log"))
            raise exit_codes.CommandError(
                exit_codes.FAILED, "the worker did not come online", log.strip()[-2000:]
            )
        _steps(demo)
    finally:
        _stop(demo)
        if not keep:
            shutil.rmtree(place, ignore_errors=True)
    if keep:
        demo.write_line(f"kept: {place}")
    if demo.wrong:
        raise exit_codes.CommandError(
            exit_codes.FAILED, f"{len(demo.wrong)} steps failed: {'; '.join(demo.wrong)}"
        )
    demo.write_line(
        "\nThat was the demonstration. Next: qctl --help, or your own app: qctl -A yourmodule worker", "32"
    )
    return exit_codes.OK


def _app() -> tuple[str, ...]:
    """The options for the example project in a checkout; else for the installed copy."""
    examples = Path(__file__).parents[3] / "examples"
    if (examples / "proj.py").exists():
        return ("-A", "proj", "--workdir", os.path.relpath(examples))
    return ("-A", "qctl.commands.demo.app")


def _steps(demo: Demo) -> None:
    def good(found: Step) -> bool:
        return found.code == exit_codes.OK

    demo.step("Which workers are online?", ("status",), lambda s: good(s) and "demo@" in s.out)
    sent = demo.step("Send a task; it prints the id.", ("call", "proj.add", "-a", "[2, 2]"), good)
    demo.step("Its result:", ("result", sent.out.strip(), "--wait", "-t", "5"), lambda s: s.out == "4\n")
    demo.step(
        "A task that no worker has registered is not sent:",
        ("call", "proj.ad", "-a", "[2, 2]"),
        lambda s: s.code == exit_codes.NOT_FOUND and "proj.add" in s.err,
    )
    demo.step(
        "A failed task, with its exception:",
        ("call", "proj.fail", "-a", '["no more paper"]', "--wait", "-t", "5"),
        lambda s: s.code == exit_codes.FAILED and "no more paper" in s.err,
    )
    demo.step("Turn task events on:", ("control", "enable_events"), good)
    demo.step("A slow task:", ("call", "proj.nap", "-a", "[2]"), good)
    demo.step("While it runs:", ("inspect", "active"), lambda s: good(s) and "proj.nap" in s.out)
    _show_events(demo)
    _offer_dashboard(demo)
    demo.step("Stop the workers; running tasks finish first.", ("control", "shutdown", "--yes"), good)


def _show_events(demo: Demo) -> None:
    """Start the subscriber first: events without a subscription are dropped."""
    demo.write_line()
    demo.write_line("# Events as they arrive:", "90")
    words = ("events", "--dump", "--limit", "3", "--for", "5s", "--type", "task-*")
    demo.write_line(f"$ qctl {show(words)} &", "1")
    listener = subprocess.Popen(
        demo.process(*words), env=demo.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert listener.stderr is not None
    listener.stderr.readline()  # "listening"
    demo.step("Send one more:", ("call", "proj.add", "-a", "[20, 22]"), lambda s: s.code == exit_codes.OK)
    out, _ = listener.communicate(timeout=STEP_S)
    sys.stdout.write(out)
    if "task-succeeded" not in out:
        demo.wrong.append(show(words))


def _offer_dashboard(demo: Demo) -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return
    demo.write_line()
    sys.stdout.write("Open the dashboard before the worker is stopped (q quits it)? [y/N] ")
    sys.stdout.flush()
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        subprocess.run(demo.process("events"), env=demo.env, check=False)


def _stop(demo: Demo) -> None:
    """Stop the worker in every case."""
    worker = demo.worker
    if worker is None:
        return
    for end in (None, worker.terminate, worker.kill):
        if end is not None and worker.poll() is None:
            end()
        try:
            worker.wait(5)
            return
        except subprocess.TimeoutExpired:
            continue
