"""The ground: the standard library only, and nothing of qcore but errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: What a lower floor needs of an upper one, by name; qcore/__init__.py fills it in when the package is
#: imported: "app" makes the default App, "current_app" returns the current one, "worker" returns the class
#: Worker, "fixups" adapts an App to the framework of its project, "tracing" starts OpenTelemetry's spans,
#: "celery_module" loads a module of the installed Celery, "debugger" stops a frame in the remote debugger.
#: A pool of greenlets adds "event_loop", which makes the loop of a coroutine;
#: `qctl worker` and app.Worker add "worker_command", which returns what starts this worker again;
#: qcore/celery/trace.py adds "around_runs" and "warn_of_idle_patches" when a package imports it.
provided: dict[str, Callable[..., Any]] = {}
