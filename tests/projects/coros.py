"""Coroutine tasks."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from qcore import App, SoftTimeLimitExceeded
from tests.projects.proj import note

app = App("coros")


@app.task(name="coros.nap")
async def nap(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@app.task(name="coros.block")
async def block(seconds: float) -> str:
    time.sleep(seconds)
    return "blocked"


@app.task(name="coros.whoami", bind=True)
async def whoami(self: Any, pause: float = 0.0) -> list[str]:
    before = self.request.id
    await asyncio.sleep(pause)
    return [before, self.request.id]


@app.task(name="coros.flaky", bind=True, max_retries=5)
async def flaky(self: Any) -> int:
    await asyncio.sleep(0)
    if self.request.retries < 2:
        raise self.retry(countdown=0.1)
    return int(self.request.retries)


@app.task(name="coros.patient", soft_time_limit=0.3)
async def patient(seconds: float) -> str:
    try:
        await asyncio.sleep(seconds)
    except SoftTimeLimitExceeded:
        return "stopped softly"
    return "done"


@app.task(name="coros.limited", time_limit=0.5)
async def limited(seconds: float) -> None:
    await asyncio.sleep(seconds)


@app.task(name="coros.log_start")
async def log_start(path: str, word: str, seconds: float) -> str:
    note(path, word)
    await asyncio.sleep(seconds)
    note(path, f"done {word}")
    return word


@app.task(name="coros.hold")
async def hold(path: str, word: str, release: str) -> str:
    """Runs until the file `release` is there."""
    note(path, word)
    while not os.path.exists(release):
        await asyncio.sleep(0.1)
    return word


@app.task(name="coros.plain_hold")
def plain_hold(path: str, word: str, release: str) -> str:
    note(path, word)
    while not os.path.exists(release):
        time.sleep(0.01)
    return word


@app.task(name="coros.plain")
def plain(x: int, y: int) -> int:
    return x + y


@app.task(name="coros.boom")
async def boom() -> None:
    raise ValueError("boom")
