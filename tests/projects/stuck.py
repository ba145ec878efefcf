"""Tasks that are stuck in different places, until a file is there or something was written to a FIFO."""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import itertools
import os
import time

from qcore import App
from tests.projects.proj import note

app = App("stuck")


def inner(path: str, release: str) -> None:
    secret = "do-not-tell"  # a variable, whose value no stack shows
    note(path, secret and "sleeps")
    while not os.path.exists(release):
        time.sleep(60)


@app.task(name="stuck.sleep")
def sleep(path: str, release: str) -> None:
    inner(path, release)


@app.task(name="stuck.locked")
def locked(path: str, fifo: str) -> int:
    """In a C call that keeps the interpreter lock, until the FIFO is written to."""
    fd = os.open(fifo, os.O_RDWR)
    buffer = ctypes.create_string_buffer(1)
    note(path, "locked")
    return int(ctypes.PyDLL(None).read(fd, buffer, 1))


@app.task(name="stuck.sums")
def sums(path: str) -> int:
    """Computes in C without an end, and keeps the interpreter lock."""
    note(path, "sums")
    return sum(itertools.repeat(0))


@app.task(name="stuck.loop")
def loop(path: str, release: str) -> float:
    """Computes in Python; returns the longest pause between two steps, as the processor time that the process
    spent meanwhile: what else runs on the machine does not count."""
    note(path, "loop")
    longest, last = 0.0, time.process_time()
    for step in range(10**12):
        longest, last = max(longest, time.process_time() - last), time.process_time()
        if step % 10_000 == 0 and os.path.exists(release):
            break
    return longest


async def deeper(path: str, release: str) -> None:
    note(path, "awaits")
    while not os.path.exists(release):
        await asyncio.sleep(0.02)


@app.task(name="stuck.awaits")
async def awaits(path: str, release: str) -> None:
    await deeper(path, release)


@app.task(name="stuck.blocks")
async def blocks(path: str, release: str) -> None:
    """Blocks the event loop."""
    inner(path, release)


@app.task(name="stuck.hashes")
def hashes(path: str) -> str:
    """Computes in C and leaves the interpreter lock to others, for minutes."""
    note(path, "hashes")
    return hashlib.pbkdf2_hmac("sha256", b"x", b"y", 2**31 - 1).hex()
