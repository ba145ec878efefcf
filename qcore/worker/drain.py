"""Stop taking tasks without leaving, and go on later.

In:  the loop.  Out: its queues are put aside, what has not started goes back, what runs goes on.
Before this: worker/verbs.py, at the request of the control commands `drain` and `resume`.
"""

from __future__ import annotations

from qcore.worker.consumer import Loop


class Drain:
    """Of one worker. Its methods may be called by any thread; the loop does the work."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.queues: list[str] | None = None  # those to go on with; None: it is not draining

    def begin(self) -> str:
        if self.queues is not None:
            return "already draining"
        self.queues = list(self._loop.consumer.queues)
        self._loop.call_soon(self._stop_taking)
        return "draining"

    def _stop_taking(self) -> None:
        self._loop.set_queues([])
        self._loop.give_back_waiting()

    def end(self) -> str:
        queues, self.queues = self.queues, None
        if queues is None:
            return "it was not draining"
        # What was added meanwhile stays.
        wanted = [*queues, *(q for q in self._loop.consumer.queues if q not in queues)]
        self._loop.call_soon(lambda: self._loop.set_queues(wanted))
        return f"taking tasks from {', '.join(wanted)}"
