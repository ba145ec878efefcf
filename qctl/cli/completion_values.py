"""Live values for completion and help: names of workers, tasks, queues, commands.

In:  a session, and the kind of values.  Out: a list, within a time budget; empty, without a message, when the
broker is unreachable or slow, or on any other error. Values are cached for 30 seconds per broker and app.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qctl.cli.session import Session

#: default time budget for the broker, seconds: a user waits for the completion
BUDGET_S = 0.1
CACHE_S = 30.0
#: time-out for importing the engine, seconds; enough on any machine
IMPORT_S = 1.0


def known(session: Session, what: str, budget_s: float = BUDGET_S) -> list[Any]:
    """The values of LOOKS[what], from the cache or the fleet; empty when the budget is exceeded."""
    found: list[Any] = []
    engine = _Engine()

    def look() -> None:
        try:
            found.extend(_look(session, what, budget_s, engine))
        except BaseException:  # an error must not print into the line that the user types
            pass

    # A thread, since connection attempts, name servers and user modules cannot be interrupted otherwise.
    ours = sys.stdout
    worker = threading.Thread(target=look, daemon=True)
    worker.start()
    worker.join(budget_s)
    if worker.is_alive() and engine.asked_for.is_set():
        # Imports end by themselves; the budget is for what may not.
        engine.there.wait(IMPORT_S)
        worker.join(budget_s)
    if worker.is_alive():
        sys.stdout = ours  # loading an app in the thread may have replaced it
        return []
    return found


class _Engine:
    """The modules that connect to a broker, imported only after a cache miss."""

    def __init__(self) -> None:
        self.asked_for, self.there = threading.Event(), threading.Event()

    def load(self, url: str) -> None:
        self.asked_for.set()
        try:
            importlib.import_module("qcore.app.app")
            importlib.import_module("qcore.control.client")
            if url.startswith("redis"):
                importlib.import_module("qcore.brokers.redis.broker")
        finally:
            self.there.set()


def _look(session: Session, what: str, budget_s: float, engine: _Engine) -> list[Any]:
    session.settle()
    options = session.options
    url = options.broker or os.environ.get("QCTL_BROKER_URL", "")
    where = "|".join([options.app or "", url, options.workdir or ""])
    # A digest, since an address may contain a password.
    key = f"{hashlib.sha256(where.encode()).hexdigest()[:32]} {what}"
    cached = _read()
    hit = cached.get(key)
    if isinstance(hit, list) and len(hit) == 2 and 0 <= time.time() - hit[0] < CACHE_S:
        return list(hit[1])
    engine.load(url)
    session.app.conf["broker_connection_timeout"] = budget_s
    values = LOOKS[what](session, budget_s)
    now = time.time()
    fresh = {k: v for k, v in cached.items() if isinstance(v, list) and v and now - v[0] < CACHE_S}
    _write({**fresh, key: [now, values]})
    return values


def _nodes(session: Session, budget_s: float) -> list[Any]:
    broker = session.broker
    if not broker.features.members_known:
        return sorted(session.app.control.ask("ping", timeout_s=budget_s).replies)
    members, others = broker.roster()
    return sorted({*(m.node for m in members if m.alive), *others})


def _tasks(session: Session, budget_s: float) -> list[Any]:
    answers = session.app.control.ask("registered", timeout_s=budget_s * 0.8)
    replies = [r for r in answers.replies.values() if isinstance(r, list)]
    return sorted({str(line).split(" [")[0] for reply in replies for line in reply})


def _queues(session: Session, budget_s: float) -> list[Any]:
    return sorted({*session.broker.administration.queues(), *session.broker.administration.paused()})


def _commands(session: Session, budget_s: float) -> list[Any]:
    """Custom control commands of the -A app and of the fleet's apps, in the form of commands.base.described.
    Only workers with an announcement are queried: Celery's would log an error."""
    from qcore.control.commands.base import described, of_users
    from qcore.errors import QcoreError

    app = session.app
    found = {c.name: described(c) for c in of_users()}
    try:
        nodes = [m.node for m in session.broker.members() if m.alive]
        answers = app.control.ask("commands", None, nodes, budget_s * 0.8)
    except QcoreError:
        return [found[name] for name in sorted(found)]  # the app's own commands are known without a broker
    for reply in answers.replies.values():
        for description in reply if isinstance(reply, list) else ():
            if isinstance(description, dict):
                found.setdefault(str(description.get("name")), description)
    return [found[name] for name in sorted(found)]


def _schedules(session: Session, budget_s: float) -> list[Any]:
    return [found.name for found in session.app.schedules.store.entries()]


LOOKS: dict[str, Callable[[Session, float], list[Any]]] = {
    "nodes": _nodes,
    "tasks": _tasks,
    "queues": _queues,
    "commands": _commands,
    "schedules": _schedules,
}


def _file() -> Path:
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("qctl")) / "completion.json"


def _read() -> dict[str, Any]:
    try:
        found = json.loads(_file().read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(values: dict[str, Any]) -> None:
    path = _file()
    try:
        from qcore.base.private_files import replace

        replace(path, json.dumps(values).encode())
    except OSError:
        return
