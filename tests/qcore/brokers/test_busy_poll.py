"""Waiting awake, and giving it up where it does not pay."""

from __future__ import annotations

from qcore.brokers.redis.busy_poll import ASLEEP, LATE_MOST, SPIN_S, BusyPoll


class Server:
    """Answers the n-th look; each look takes a tenth of the time that is spent looking."""

    def __init__(self, after: int) -> None:
        self.after, self.looks, self.time = after, 0, 0.0

    def poll(self, _: int) -> bool:
        self.looks += 1
        self.time += SPIN_S / 10
        return self.looks >= self.after

    def now(self) -> float:
        return self.time


def looks(spin: BusyPoll, after: int) -> int:
    server = Server(after)
    spin.wait(server.poll, SPIN_S, server.now)
    return server.looks


def test_an_answer_that_comes_soon_is_looked_for() -> None:
    spin = BusyPoll()
    spin._asleep = 0

    assert [looks(spin, 5) for _ in range(20)] == [5] * 20


def test_late_answers_are_slept_for_and_tried_again_now_and_then() -> None:
    spin = BusyPoll()
    spin._asleep = 0

    found = [looks(spin, 1000) for _ in range(LATE_MOST + 2 * ASLEEP + 2)]

    assert all(n > 0 for n in found[:LATE_MOST])
    assert sum(n > 0 for n in found[LATE_MOST:]) == 2


def test_a_server_that_is_fast_again_is_noticed() -> None:
    spin = BusyPoll()
    spin._asleep = 0
    for _ in range(LATE_MOST):
        looks(spin, 1000)

    found = [looks(spin, 2) for _ in range(ASLEEP + 10)]

    assert found[ASLEEP:] == [2] * 10
