"""The tasks of an app by name.

In:  tasks, as decorators make them.  Out: a mapping in which each has the options that follow from the
settings; the built-in tasks and the shared ones are added when it is first read.
"""

from __future__ import annotations

import logging
import threading
from functools import cache
from typing import TYPE_CHECKING

from qcore.errors import InvalidTaskError, NotRegistered
from qcore.tasks import decorators
from qcore.tasks.task import Task

if TYPE_CHECKING:
    from qcore.tasks.task import TaskApp

log = logging.getLogger("qcore.app")


@cache
def _say_once(kind: str) -> None:
    log.warning("the tasks of %s name a Strategy class; workers here do not use it", kind)


class TaskRegistry(dict[str, Task]):
    """`app.tasks`. A name that is not there raises NotRegistered, a KeyError, with near misses."""

    NotRegistered = NotRegistered

    def __init__(self, app: TaskApp) -> None:
        super().__init__()
        self._app = app
        self._unattached: list[Task] = []  # tasks without the options that follow from settings
        self._shared_taken, self._removals = 0, 0
        self._has_built_in = False
        self.renew_lock()

    def renew_lock(self) -> None:
        """Replace the lock, in a forked child."""
        self._lock = threading.RLock()

    def add(self, task: Task) -> Task:
        """Register a task, unless its name is taken. Returns the one that has the name."""
        known = self.setdefault(task.name, task)
        if not known._bound:
            self._unattached.append(known)
        known._app = self._app
        return known

    def filter_types(self, type: str) -> dict[str, Task]:
        """The tasks whose attribute `type` is this; it is "regular" without one."""
        return {name: task for name, task in self.items() if getattr(task, "type", "regular") == type}

    def regular(self) -> dict[str, Task]:
        return self.filter_types("regular")

    def periodic(self) -> dict[str, Task]:
        return self.filter_types("periodic")

    def complete(self) -> TaskRegistry:
        """Add the built-in and the shared tasks, and give all their options."""
        if not self._has_built_in:
            self._has_built_in = True
            from qcore.execution.builtins import add_built_in

            add_built_in(self._app)
        if self._removals != decorators.removals[0]:
            self._removals, self._shared_taken = decorators.removals[0], 0
        taken = self._shared_taken
        if taken < len(decorators.shared):
            self._shared_taken = len(decorators.shared)
            for shared in decorators.shared[taken:]:
                if shared.name_for(self._app) not in self:
                    self.add(shared.make(self._app))
        if self._unattached:
            self._attach_new()
        return self

    def _attach_new(self) -> None:
        with self._lock:  # no other thread sees a task without its options
            while self._unattached:
                task = self._unattached[0]
                if not task._bound:
                    task.attach(self._app)
                    if getattr(task, "Strategy", None):
                        _say_once(type(task).__mro__[1].__name__)
                if self._unattached and self._unattached[0] is task:
                    del self._unattached[0]

    def named(self, name: str) -> Task:
        """The task called `name`; raises NotRegistered with near misses."""
        found = self.get(name)
        if found is None or not found._bound:
            return self._app.tasks[name]  # with all their options
        return found

    def register(self, task: Task | type[Task]) -> None:
        """Register a task, an instance or a class, in place of the one with its name. Raises
        InvalidTaskError for one without a name."""
        instance = task() if isinstance(task, type) else task
        if not instance.name:
            raise InvalidTaskError(f"the task class {type(instance).__name__} has no name")
        self.pop(instance.name, None)
        self.add(instance)

    def unregister(self, name: str | Task) -> None:
        """Remove a task. Raises NotRegistered."""
        key = name if isinstance(name, str) else name.name
        if self.pop(key, None) is None:
            raise NotRegistered(key, sorted(self))

    def __missing__(self, name: str) -> Task:
        raise NotRegistered(name, sorted(self))
