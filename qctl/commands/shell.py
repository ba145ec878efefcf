"""`qctl shell`: a Python shell with the app and its tasks as names."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import click

from qcore.pools import patch_for
from qctl import exit_codes
from qctl.cli.command import command as page
from qctl.cli.session import current


@page(
    "shell",
    examples=[
        ("qctl -A proj shell", "then: add.delay(2, 2).get(timeout=5)"),
        ("qctl -A proj shell --no-exec", "only list the names it would define"),
    ],
    exit_codes={exit_codes.USAGE: "no app, or a shell that is not installed"},
    see_also=["call", "inspect registered"],
)
@click.option("-I", "--ipython", is_flag=True, help="Use IPython; an error if it is not installed.")
@click.option("-B", "--bpython", is_flag=True, help="Use bpython; an error if it is not installed.")
@click.option("-P", "--python", "plain", is_flag=True, help="Python's own.")
@click.option("-T", "--without-tasks", is_flag=True, help="Define only the app, not its tasks by name.")
@click.option("--gevent", is_flag=True, help="Patch the standard library for gevent first.")
@click.option("--eventlet", is_flag=True, help="Patch the standard library for eventlet first.")
@click.option("--no-exec", is_flag=True, help="Start nothing; list the names.")
def command(
    ipython: bool,
    bpython: bool,
    plain: bool,
    without_tasks: bool,
    gevent: bool,
    eventlet: bool,
    no_exec: bool,
) -> int:
    """Start Python with the app and its tasks loaded.

    It runs no tasks from the broker. Of the installed shells it takes IPython, then bpython, then
    Python's own.
    """
    session = current()
    session.needs_app("a shell")
    if gevent and eventlet:
        raise click.UsageError("--gevent cannot be combined with --eventlet")
    patch_for("gevent" if gevent else "eventlet" if eventlet else None)  # before the app is imported
    app = session.app
    app.import_modules()
    names = _names(app, not without_tasks)
    lines = [f"  {name:<20} {_what(value)}" for name, value in names.items()]
    session.out.note("defined names:\n" + "\n".join(lines))
    if no_exec:
        return exit_codes.OK
    wanted = "IPython" if ipython else "bpython" if bpython else "" if plain else None
    if wanted and importlib.util.find_spec(wanted) is None:
        raise exit_codes.CommandError(
            exit_codes.USAGE, f"{wanted} is not installed", "leave out the option, or install it"
        )
    if wanted is None:
        wanted = next((n for n in ("IPython", "bpython") if importlib.util.find_spec(n)), "")
    return _start(wanted, names)


def _names(app: Any, with_tasks: bool) -> dict[str, Any]:
    import qcore

    names: dict[str, Any] = {"app": app, "celery": app}
    for word in ("group", "chain", "chord", "signature", "AsyncResult"):
        names[word] = getattr(qcore, word)
    for name, task in sorted(app.tasks.items()) if with_tasks else ():
        short = name.rpartition(".")[2]
        if not name.startswith("celery.") and short.isidentifier():
            names.setdefault(short, task)
    return names


def _what(value: Any) -> str:
    return f"task {value.name}" if hasattr(value, "delay") and hasattr(value, "name") else repr(value)[:60]


def _start(shell: str, names: dict[str, Any]) -> int:
    if shell == "IPython":
        from IPython import start_ipython  # type: ignore[import-not-found]

        start_ipython(argv=[], user_ns=names)
    elif shell == "bpython":
        import bpython  # type: ignore[import-not-found]

        bpython.embed(names)
    else:
        import code

        code.interact(banner=f"Python {sys.version.split()[0]}", local=names, exitmsg="")
    return exit_codes.OK
