"""Cameras: programs that read the state periodically. `qctl events -c proj.Camera -F 2`.

class Camera(Polaroid):
    def on_shutter(self, state):
        print(len(state.tasks), "tasks,", len(state.workers), "workers")
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from qcore.base.times import per_second
from qcore.events.cluster import State
from qcore.events.receiver import listen
from qcore.signals import Signal

if TYPE_CHECKING:
    from qcore.tasks.interface import ClientApp

DEFAULT_FREQ_S = 1.0
log = logging.getLogger("qcore.events")


class Polaroid:
    """A camera: on_shutter(state) is called every freq seconds, and on_cleanup() every cleanup_freq seconds
    and at the end. Subclass it, as with Celery's. maxrate: at most so many pictures ("10/m"). timer is
    accepted for Celery's sake."""

    shutter_signal = Signal("shutter_signal", "state")
    cleanup_signal = Signal("cleanup_signal")
    #: whether the state forgets everything after each picture
    clear_after = False

    def __init__(
        self,
        state: State,
        freq: float = DEFAULT_FREQ_S,
        maxrate: str | float | None = None,
        cleanup_freq: float = 3600.0,
        timer: Any = None,
        app: ClientApp | None = None,
    ) -> None:
        self.state, self.freq, self.app = state, float(freq), app
        self.cleanup_freq, self.logger = float(cleanup_freq), log
        per_s = per_second(maxrate)
        self._least = 1 / per_s if per_s else 0.0
        now = time.monotonic()
        self._next, self._next_cleanup, self._earliest = now + self.freq, now + self.cleanup_freq, now

    def on_shutter(self, state: State) -> None:
        """The user's code."""

    def on_cleanup(self) -> None:
        """Called every cleanup_freq seconds, and when the camera stops."""

    def shutter(self) -> None:
        """Take a picture, unless maxrate is reached."""
        now = time.monotonic()
        if now >= self._earliest:
            self._earliest = now + self._least
            self.shutter_signal.send(self.state)
            self.on_shutter(self.state)

    def capture(self) -> None:
        """Take a picture while the state does not change."""
        self.state.freeze_while(self.shutter, clear_after=self.clear_after)

    def cleanup(self) -> None:
        """Call on_cleanup(), and the receivers of the signal."""
        self.cleanup_signal.send(self.state)
        self.on_cleanup()

    def tick(self, now: float) -> bool:
        """Do what is due (now: monotonic seconds); returns whether a picture was."""
        if now >= self._next_cleanup:
            self._next_cleanup = now + self.cleanup_freq
            self.cleanup()
        if now < self._next:
            return False
        self._next = now + self.freq
        self.capture()
        return True


def photograph(camera: Polaroid, app: ClientApp, duration_s: float | None = None) -> None:
    """Apply events to the state of a camera and take its pictures, until duration_s is over or
    KeyboardInterrupt; then let it clean up. Raises BrokerDown."""
    ends = None if duration_s is None else time.monotonic() + duration_s
    conf = app.conf
    try:
        with listen(app.broker, exchange=conf.event_exchange, serializer=conf.event_serializer) as batches:
            for batch in batches:
                for event in batch:
                    camera.state.event({"clock": 0, **event, "local_received": time.time()})
                camera.tick(time.monotonic())
                if ends is not None and time.monotonic() >= ends:
                    break
    finally:
        camera.cleanup()
