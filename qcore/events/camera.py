"""Cameras: programs that read the state periodically. `qctl events -c proj.Camera -F 2`.

class Camera(Polaroid):
    def on_shutter(self, state):
        print(len(state.tasks), "tasks,", len(state.workers), "workers")
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from qcore.base.keywords import check_accepted
from qcore.events.state import State

if TYPE_CHECKING:
    from qcore.tasks.interface import ClientApp

DEFAULT_FREQ_S = 1.0


class Polaroid:
    """A camera: on_shutter(state) is called every freq seconds. Subclass it, as with Celery's."""

    def __init__(
        self, state: State, freq: float = DEFAULT_FREQ_S, app: ClientApp | None = None, **celerys: Any
    ) -> None:
        check_accepted("a camera", celerys, "state freq app", "maxrate cleanup_freq timer")
        self.state, self.freq, self.app = state, float(freq), app
        self._next = time.monotonic() + self.freq

    def on_shutter(self, state: State) -> None:
        """The user's code."""

    def on_cleanup(self) -> None:
        """Called when the camera stops."""

    def tick(self, now: float) -> bool:
        """Call on_shutter() when it is due (now: monotonic seconds); returns whether it was called."""
        if now < self._next:
            return False
        self._next = now + self.freq
        self.on_shutter(self.state)
        return True
