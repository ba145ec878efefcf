"""Callers of control commands, half of which die in the middle of a call.

    python -m tests.support.callers URL COUNT

One process that calls; each second call is made by a child that is killed at one of three places: when its
inbox is open, when it has asked, when it has got an answer. It prints how many calls were answered and how
many callers died.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, NoReturn

from qcore import App
from qcore.brokers.redis.broker import RedisBroker
from qcore.brokers.redis.bus import RedisInbox


def die(*_: Any) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def doomed(url: str, place: int) -> NoReturn:
    if place == 0:
        RedisBroker.broadcast = die  # type: ignore[method-assign]
    elif place == 1:
        RedisInbox.take = die  # type: ignore[method-assign]
    else:
        RedisInbox.close = die  # type: ignore[method-assign]
    App("doomed", broker=url, set_as_current=False).control.ask("ping", timeout_s=5)
    os._exit(1)


def main() -> None:
    url, count = sys.argv[1], int(sys.argv[2])
    answered = died = 0
    app = App("caller", broker=url, set_as_current=False)
    for number in range(count):
        if number % 2 == 0:
            answered += bool(app.control.ask("ping", timeout_s=60).replies)
            continue
        pid = os.fork()
        if pid == 0:
            doomed(url, number // 2 % 3)
        _, status = os.waitpid(pid, 0)
        died += os.WIFSIGNALED(status)
    print(f"answered {answered} died {died}", flush=True)


if __name__ == "__main__":
    main()
