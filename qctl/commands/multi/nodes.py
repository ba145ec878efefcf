"""Several workers of one host: their names, and the command line of each.

In:  the words after `qctl multi start`.  Out: Nodes.  After this: multi/command.py starts and stops them.
The words are Celery's: names, or a number of workers; options for all; `-c:w1 4` or `-c:1-3 4` for some.
A node's options are stored next to its pid file, so that a restart needs none.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import click

from qcore.base.private_files import NotPrivate, make_folder, open_to_append, read, replace
from qcore.base.process_facts import command_line, is_running, owner
from qctl import exit_codes
from qctl.cli.types import nearest

#: options of multi itself, not of the workers: name -> whether it takes a value
OWN = {
    "--range-prefix": True,
    "--prefix": True,
    "--suffix": True,
    "--hostname": True,
    "--pidfile": True,
    "--logfile": True,
    "-f": True,
    "-n": True,
    "--nosplash": False,
    "--verbose": False,
}


class Node:
    """One worker: its full name, its options, its files."""

    #: set once this process has started it
    process: subprocess.Popen[bytes] | None = None

    def __init__(
        self, name: str, options: list[str], pidfile: str, logfile: str, workdir: str, env: dict[str, str]
    ) -> None:
        """env: values that must not be in a public command line, such as URLs with passwords."""
        self.name, self.options, self.workdir, self.env = name, options, workdir, env
        self.pidfile, self.logfile = pidfile, logfile

    @property
    def argv(self) -> list[str]:
        """The command that starts the worker."""
        return [
            *(sys.executable, "-m", "qctl", "worker", "-n", self.name),
            *("--pidfile", self.pidfile, "-f", self.logfile, *self.options),
        ]

    @property
    def line(self) -> str:
        return "qctl " + shlex.join(self.argv[3:])

    def pid(self) -> int | None:
        """The process id; None when the worker does not run."""
        try:
            text, whose = read(Path(self.pidfile))
            pid = int(text)
        except (OSError, ValueError):
            return None
        # Another process may have this number by now.
        if not is_running(pid) or self.name not in re.split(r"[\0 ]", command_line(pid)):
            return None
        # Root can read other users' pid files; they count only for processes of the same user.
        return pid if owner(pid) == whose else None

    def start(self) -> None:
        """Start the worker in a session of its own, and store its options. Raises OSError."""
        fields = {k: v for k, v in vars(self).items() if k != "process"}
        for file in (self.pidfile, self.logfile):
            make_folder(Path(file).parent)
        with os.fdopen(open_to_append(Path(self.logfile), 0o644), "ab") as log:
            self.process = subprocess.Popen(
                self.argv,
                cwd=self.workdir,
                env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        replace(memory(self.pidfile), json.dumps(fields).encode())

    def is_ready(self, log_start: int) -> bool:
        with Path(self.logfile).open("rb") as log:
            log.seek(log_start)
            return f"{self.name} ready.".encode() in log.read()


def memory(pidfile: str) -> Path:
    """The file that stores the options of the worker with this pid file."""
    return Path(f"{pidfile.removesuffix('.pid')}.json")


def folder() -> Path:
    """The default directory of pid and log files."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "qctl" / "multi"


def remembered(pidfile: str | None, warn: Callable[[str], None]) -> list[Node]:
    """Every node that was started before with its files in the directory of `pidfile`. A file that another
    user could have written is ignored with a warning: it would be that user's command line."""
    place = Path(pidfile).parent if pidfile else folder()
    found = []
    for file in sorted(place.glob("*.json")):
        try:
            text, whose = read(file)
            if whose != os.geteuid():
                raise NotPrivate(file, "belongs to another user")
            found.append(Node(**json.loads(text)))
        except NotPrivate as exc:
            warn(f"{exc}; it is ignored")
        except (OSError, ValueError, TypeError):
            continue  # not a file of multi
    return found


class Plan:
    """The parsed words of a command line."""

    def __init__(
        self, words: Sequence[str], worker: click.Command, common: Sequence[str], env: dict[str, str]
    ) -> None:
        """worker: the command whose options the nodes take; common: the first options of each node; env: the
        environment of their processes."""
        self._env = env
        self._takes_value = {
            name: not getattr(p, "is_flag", False)
            for p in worker.params
            if isinstance(p, click.Option)
            for name in (*p.opts, *p.secondary_opts)
        }
        self.own: dict[str, str] = {}
        self.names: list[str] = []
        self._common = list(common)
        self._all: list[str] = []
        self._some: list[tuple[str, list[str]]] = []  # (nodes as typed, words)
        self._take(list(words))

    def _take(self, words: list[str]) -> None:
        while words:
            word = words.pop(0)
            if word == "--":
                self._all += words
                return
            if not word.startswith("-") or word == "-":
                self.names.append(word)
                continue
            option, equals, value = word.partition("=")
            option, colon, names_text = option.partition(":")
            if self._needs_value(option) and not equals:
                if not words:
                    raise exit_codes.CommandError(exit_codes.USAGE, f"{option} needs a value")
                value = words.pop(0)
                equals = "="
            arguments = [option, value] if equals else [option]
            if colon:
                self._some.append((names_text, arguments))
            elif option in OWN:
                self.own[option] = value
            else:
                self._all += arguments

    def _needs_value(self, option: str) -> bool:
        if option in OWN:
            return OWN[option]
        if option in self._takes_value:
            return self._takes_value[option]
        short = option[:2]  # -c4, -Ofair
        if not option.startswith("--") and self._takes_value.get(short):
            return False
        raise exit_codes.CommandError(
            exit_codes.USAGE, f"a worker has no option {option}{nearest(option, self._takes_value)}"
        )

    def nodes(self) -> list[Node]:
        """The named nodes. Raises CommandError when a `:node` names none of them."""
        host = self.own.get("--hostname") or self.own.get("-n") or socket.gethostname()
        names = self.names
        if len(names) == 1 and names[0].isdecimal():
            prefix = self.own.get("--range-prefix", "celery")
            names = [f"{prefix}{i}" for i in range(1, int(names[0]) + 1)]
        names = [f"{self.own.get('--prefix', '')}{name}" for name in names]
        suffix = self.own.get("--suffix")
        full = [n if "@" in n else f"{n}@{(suffix or host).strip(chr(34))}" for n in names]
        options = {name: [*self._common, *self._all] for name in full}
        for names_text, arguments in self._some:
            for name in _chosen(names_text, full):
                options[name] += arguments
        return [self._node(name, options[name]) for name in full]

    def _node(self, name: str, options: list[str]) -> Node:
        base = folder()
        pidfile = self.own.get("--pidfile") or str(base / "%n.pid")
        logfile = self.own.get("--logfile") or self.own.get("-f") or str(base / "%n.log")
        pidfile, logfile = (str(Path(expand(p, name)).absolute()) for p in (pidfile, logfile))
        return Node(name, [expand(o, name) for o in options], pidfile, logfile, str(Path.cwd()), self._env)


def expand(text: str, name: str) -> str:
    """%n short name, %h host, %N full name, %d domain; %I and %i are empty (one file for all children)."""
    short, _, host = name.partition("@")
    _, _, domain = host.partition(".")
    for sign, value in (("%n", short), ("%h", host), ("%N", name), ("%d", domain), ("%I", ""), ("%i", "")):
        text = text.replace(sign, value)
    return text


def _chosen(names_text: str, names: Sequence[str]) -> Iterable[str]:
    """Names for `w1,w3`, `1-3` or `2`."""
    short = {name.partition("@")[0]: name for name in names}
    for part in names_text.split(","):
        first, dash, last = part.partition("-")
        if part in short:
            yield short[part]
        elif part in names:
            yield part
        elif first.isdecimal() and (last.isdecimal() or not dash):
            numbers = range(int(first), int(last or first) + 1)
            if numbers[0] < 1 or numbers[-1] > len(names):
                raise exit_codes.CommandError(
                    exit_codes.USAGE, f"there is no worker number {part}; {len(names)} are named"
                )
            yield from (names[i - 1] for i in numbers)
        else:
            raise exit_codes.CommandError(
                exit_codes.USAGE, f"no worker named '{part}' among them{nearest(part, short)}"
            )


def wait_ready(node: Node, log_start: int, patience_s: float) -> str:
    """'started'; 'starting' after patience_s seconds; or 'failed: ' with the last log line."""
    process = node.process
    assert process is not None
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return f"failed: {_last_line(node.logfile, log_start)}"
        if node.is_ready(log_start):
            return "started"
        time.sleep(0.05)
    return "starting"


def wait_gone(nodes: Sequence[Node], patience_s: float | None) -> list[Node]:
    """Nodes that still run after patience_s seconds (None: no time-out)."""
    deadline = None if patience_s is None else time.monotonic() + patience_s
    left = list(nodes)
    while left := [n for n in left if n.pid() is not None]:
        if deadline is not None and time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return left


def _last_line(logfile: str, start: int) -> str:
    with Path(logfile).open("rb") as log:
        log.seek(start)
        lines = log.read().decode("utf-8", "replace").strip().splitlines()
    errors = [line for line in lines if line.startswith("qctl: ")] or lines[-1:]
    return errors[0].removeprefix("qctl: ") if errors else "it printed nothing"
