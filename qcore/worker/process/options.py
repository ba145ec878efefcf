"""The node name, the queues and the concurrency of a worker, from its options and settings."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from typing import Any

from qcore.base import provided
from qcore.base.processors import usable_processors
from qcore.errors import ConfigError
from qcore.settings.config import Config
from qcore.wire.content import check_accepted, content_types, type_of


def node_name(hostname: str | None) -> str:
    """`name@host`; as in Celery: %h the host, %n its name, %d its domain. Raises ConfigError."""
    host = socket.gethostname()
    name, _, domain = host.partition(".")
    text = (hostname or "celery@%h").replace("%h", host).replace("%n", name).replace("%d", domain)
    if "@" not in text:
        text = f"{text}@{host}"
    if any(not c.isprintable() or c.isspace() for c in text):
        raise ConfigError(f"a worker's name must not hold spaces or control characters: {text!r}")
    return text


def file_name(template: str, node: str) -> str:
    """The name of a worker's log or pid file; as in Celery: %n the node's short name, %h its host, %d the
    domain of that, %p the whole name, %i 0 and %I nothing, since all processes write to one. Raises
    ConfigError for another letter."""
    short, _, host = node.partition("@")
    signs = {"n": short, "h": host, "d": host.partition(".")[2], "p": node, "i": "0", "I": "", "%": "%"}

    def replace(found: re.Match[str]) -> str:
        if found[1] not in signs:
            raise ConfigError(
                f"'%{found[1]}' in '{template}' has no meaning; use %n, %h, %d, %p, %i, %I or %%"
            )
        return signs[found[1]]

    return re.sub("%(.)", replace, template)


def worker_command() -> tuple[str, ...]:
    """What starts this worker; empty in a program that is no worker itself."""
    return tuple(provided["worker_command"]()) if "worker_command" in provided else ()


def script_command() -> tuple[str, ...]:
    """The command line of this program, which comes to its worker again; empty where nothing can run it
    again: in another thread than the main one, in an interactive Python, for a program from stdin."""
    if threading.current_thread() is not threading.main_thread() or sys.argv[0] in ("", "-"):
        return ()
    # Its full path: this process may be in another directory by now.
    script = getattr(sys.modules["__main__"], "__file__", None)
    words = [script if script and word == sys.argv[0] else word for word in sys.orig_argv[1:]]
    return (sys.executable, *words) if words else ()


def is_spawning(start_method: str) -> bool:
    """Whether the processes of the pool are spawned, not forked. Raises ConfigError."""
    if start_method not in ("fork", "spawn"):
        raise ConfigError(f"worker_pool_start_method must be 'fork' or 'spawn', not '{start_method}'")
    if start_method == "spawn" and not worker_command():
        raise ConfigError(
            "worker_pool_start_method is 'spawn': each process runs the worker's command again, so it needs "
            "a worker that was started by `qctl -A APP worker`, or by a script with app.worker_main()"
        )
    return start_method == "spawn"


def queue_names(conf: Any, queues: Any, exclude: Any) -> tuple[str, ...]:
    """The queues to consume: `queues`, else task_queues, else task_default_queue; without those in
    `exclude`. Raises ConfigError if none is left."""

    def names(value: Any) -> list[str]:
        if not value:
            return []
        if isinstance(value, str):
            return [q.strip() for q in value.split(",") if q.strip()]
        return [q if isinstance(q, str) else q.alias or q.name for q in value]

    known = names(conf.task_queues) or [conf.task_default_queue]
    found = names(queues) or known
    if not conf.task_create_missing_queues and (unknown := [q for q in found if q not in known]):
        raise ConfigError(
            f"task_queues has no queue '{unknown[0]}', and task_create_missing_queues is false; add it there"
        )
    without = set(names(exclude))
    left = tuple(dict.fromkeys(q for q in found if q not in without))
    if not left:
        raise ConfigError("no queue is left to consume from")
    return left


def concurrency_of(value: int | str | None, default: int | None = None, most: int = 512) -> int:
    """How many slots; without a value, for 0 and `auto`, the default, or one for each processor that this
    process may use. Raises ConfigError."""
    if value in (None, 0, "0", "auto"):
        return default or usable_processors()
    try:
        number = int(value)
    except ValueError:
        raise ConfigError(f"the concurrency is a number or 'auto', not '{value}'") from None
    if not 1 <= number <= most:
        raise ConfigError(f"the concurrency is a number from 1 to {most}, not {number}")
    return number


#: settings that name a serializer which the worker writes with
_WRITTEN = ("task_serializer", "result_serializer", "event_serializer")


def check_serializers(conf: Config, user: int, environ: Mapping[str, str]) -> None:
    """Raises ConfigError for a name that no serializer has, and, as Celery does, for a worker of root (user
    id 0) that accepts pickle."""
    check_accepted(conf.accept_content)
    for setting in _WRITTEN:
        try:
            type_of(conf[setting])
        except ConfigError as exc:
            raise ConfigError(f"{setting}: {exc}") from None
    is_pickled = not content_types(conf.accept_content).isdisjoint(content_types(("pickle",)))
    if is_pickled and user == 0 and not environ.get("C_FORCE_ROOT"):
        raise ConfigError(
            "accept_content names pickle, so whoever writes to the broker runs code as root here; start the "
            "worker as another user, or set C_FORCE_ROOT=1 in the environment"
        )


def debug_on_signal() -> None:
    """With CELERY_RDBSIG in the environment, SIGUSR2 stops the main thread of this process in the remote
    debugger (qcore/celery/rdb.py), until its client continues. For main threads only."""
    if os.environ.get("CELERY_RDBSIG"):
        signal.signal(signal.SIGUSR2, lambda signum, frame: provided["debugger"](frame))
