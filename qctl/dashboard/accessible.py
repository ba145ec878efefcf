"""`qctl events --accessible`: the dashboard as lines, with a prompt for commands.

In:  a session, a source, lines of stdin.  Out: sentences on stdout, each when it has changed, at most one in
EVERY_S a subject. A line that begins with `:` names a view, or is a command line of qctl, as in the
dashboard.
"""

from __future__ import annotations

import queue
import shlex
import sys
import threading
import time
from typing import TYPE_CHECKING

from qctl import exit_codes
from qctl.cli.read_only import permit
from qctl.dashboard.run_command import CommandResult, Running, command_of, has_option
from qctl.dashboard.views.sentences import Speaker, printable

if TYPE_CHECKING:
    import click

    from qctl.cli.session import Session
    from qctl.dashboard.sources.base import Source

LOOK_S, EVERY_S = 0.5, 5.0
#: the longest wait for the first complete picture, seconds
FIRST_S = 2.0
VIEWS = ("overview", "workers", "tasks", "queues", "failures", "events", "broker", "types")
HELP = f"""type a colon and a view: {", ".join(VIEWS)}
or a colon and any command of qctl: :queue pause mails, :failed retry 'name:proj.*', :worker ls
a command that changes something is shown first, and run after y
:pause stops the lines, :resume lets them go on, :quit ends"""


class Reader:
    """Prints sentences and runs what is typed, until it is closed."""

    def __init__(self, session: Session, feed: Source, root: click.Command | None) -> None:
        self.session, self.feed, self.root = session, feed, root
        self.speaker = Speaker()
        self._typed: queue.Queue[str | None] = queue.Queue()
        self._said: dict[str, tuple[float, object]] = {}
        self._alerts: dict[str, str] = {}
        self._paused = False
        context = session.context
        self._extra = ["--context", context.name] if context is not None else []
        self._extra += ["--reason", session.options.reason] if session.options.reason else []

    def run(self) -> int:
        """Until :quit, the end of stdin, or Ctrl-C; return the exit code."""
        self.say(":help lists what can be typed")
        threading.Thread(target=self._read, name="prompt", daemon=True).start()
        ends = time.monotonic() + FIRST_S
        while not self.feed.is_complete and time.monotonic() < ends:
            self.look()
            time.sleep(0.05)
        while True:
            self.tell()
            try:
                line = self._typed.get(timeout=LOOK_S)
            except queue.Empty:
                continue
            if line is None or line.strip() in (":q", ":quit"):
                return exit_codes.OK
            self.take(line.strip())

    def say(self, text: str) -> None:
        """Print lines without any character that draws."""
        for line in text.splitlines():
            sys.stdout.write(f"{printable(line).rstrip()}\n")
        sys.stdout.flush()

    def look(self) -> None:
        """Take a snapshot."""
        self.picture = self.feed.take()
        self.feed.memory.charts.look(self.picture)

    def tell(self) -> None:
        """Say what has changed."""
        self.look()
        if self._paused:
            return
        now, is_first = time.monotonic(), not self._said
        alerts, self._alerts = self._alerts, {}
        for subject, text, news in self.speaker.sentences(self.picture):
            said = self._said.get(subject)
            if subject.startswith("alert "):
                self._alerts[subject] = text
            if said is not None and (said[1] == news or now - said[0] < EVERY_S):
                continue
            self._said[subject] = (now, news)
            if not (is_first and subject.startswith("worker ") and " online" in text):
                self.say(text)  # the line of all workers has those that are well
        for subject in alerts.keys() - self._alerts.keys():
            self._said.pop(subject, None)
            self.say(f"over: {alerts[subject].removeprefix('alert: ')}")

    # --- what is typed

    def _read(self) -> None:
        for line in sys.stdin:
            self._typed.put(line)
        self._typed.put(None)

    def take(self, line: str) -> None:
        """Run a typed line."""
        text = line.removeprefix(":").strip()
        if not line:
            return
        if not line.startswith(":") or text in ("", "help", "h", "?"):
            self.say(HELP)
        elif text in ("pause", "resume"):
            self._paused = text == "pause"
            self.feed.pause(self._paused)
            self.say("paused" if self._paused else "resumed")
        elif text in VIEWS:
            self.say("\n".join(self.speaker.view(self.picture, text)))
        elif text == "schedules":
            self._run(("schedule", "ls"))
        else:
            try:
                words = tuple(shlex.split(text))
            except ValueError as exc:
                self.say(f"not run: {exc}")
                return
            self._command(words[1:] if words[:1] == ("qctl",) else words)

    def _command(self, words: tuple[str, ...]) -> None:
        if not words:
            return
        command = command_of(self.root, words)
        if not getattr(command, "changes", True):
            self._run(words)
            return
        refusal = self._refusal()
        if refusal:
            self.say(f"not done: {refusal}")
            return
        self.say(f"run qctl {shlex.join(words)} ? type y or n")
        answer = self._typed.get()
        if answer is None or answer.strip().removeprefix(":").lower() not in ("y", "yes"):
            self.say("not run")
            return
        needs_yes = has_option(command, "--yes") and "--yes" not in words
        self._run((*words, "--yes") if needs_yes else words)
        self.feed.ask_soon()

    def _refusal(self) -> str:
        """Why changes are refused; empty: they are permitted. A missing reason is refused by the command."""
        if self.feed.refusal:
            return self.feed.refusal
        context = self.session.context
        if context is not None and context.is_prod and not self.session.is_read_only:
            return ""
        try:
            permit(self.session, "qctl control")
        except exit_codes.CommandError as stop:
            return f"{stop.message}; {stop.hint}"
        return ""

    def _run(self, words: tuple[str, ...]) -> None:
        try:
            did = Running(self.feed.app, words, self._extra).wait()
        except OSError as exc:
            did = CommandResult(False, f"cannot start Python: {exc.strerror}")
        self.say(did.text or did.summary)
        if not did.ok:
            self.say("the command failed")


def read_aloud(session: Session, feed: Source, root: click.Command | None, view: str | None) -> int:
    """Run until it is closed; with a view, print this view once. Return the exit code."""
    reader = Reader(session, feed, root)
    feed.start()
    try:
        if view is None:
            return reader.run()
        ends = time.monotonic() + (session.options.timeout or FIRST_S if not feed.can_seek else 600.0)
        while not feed.is_complete and time.monotonic() < ends:
            time.sleep(0.02)
        reader.look()
        reader.say("\n".join(reader.speaker.view(reader.picture, view)))
        if reader.picture.trouble and not reader.picture.asked:
            raise exit_codes.CommandError(exit_codes.UNAVAILABLE, f"cannot reach {reader.picture.broker}")
        if not feed.can_seek and not reader.picture.up:
            raise exit_codes.CommandError(
                exit_codes.NO_ANSWER, "no worker answered", "is one running? try `qctl status`"
            )
        return exit_codes.OK
    except KeyboardInterrupt:
        return exit_codes.OK
    finally:
        feed.stop()
