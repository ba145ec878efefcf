"""The stacks of running tasks: where each of them is now, and whether it computes or waits.

In:  frames of threads, coroutines and greenlets; or the text that faulthandler wrote in a child process.
Out: a Stack for each running job, without the values of variables.
Nothing here is called unless somebody asks, and then by the control thread: a task that runs pays nothing. To
a thread that executes Python code it costs a few changes of the interpreter lock; a coroutine or greenlet
that waits is not touched.
After this: worker/remote_control.py, the control command `stack`.
"""

from __future__ import annotations

import gc
import itertools
import linecache
import operator
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import FrameType
from typing import Any, cast

import msgspec

from qcore.base.process_facts import kernel_wait, thread_activity
from qcore.execution.run import Run

#: what a task does: executes Python code; waits in a call into C; computes in a call into C, executing no
#: Python code; is a coroutine that awaits; is a greenlet that has let others run
PYTHON, C_WAIT, C_COMPUTE, AWAIT, SWITCHED = "python", "c_wait", "c_compute", "await", "switched"
UNKNOWN = "unknown"
#: the innermost frames of a stack that are told
MOST_FRAMES = 100
#: a thread is watched this long, seconds
WATCH_S = 0.02
#: the switch interval of the interpreter meanwhile, seconds
SWITCH_S = 0.0005
#: how often and how long this thread keeps the interpreter lock, to see who needs it: some milliseconds
HOLDS, HOLD_STEPS = 3, 1_000_000

#: the file that calls tasks, and the folder of this package, as frames name them
_RUN = Run.__init__.__code__.co_filename
_HERE = _RUN.removesuffix(os.path.join("execution", "run.py"))  # noqa: PTH118 - text, not a file
_LINE = re.compile(r'^  File "(.*)", line (\d+) in (.*)$', re.MULTILINE)


class Frame(msgspec.Struct, frozen=True):
    """One call: the line that it is at."""

    file: str
    line: int
    function: str
    code: str = ""  # the text of the line, as the file has it now


class Stack(msgspec.Struct):
    """The stack of one running job."""

    number: int
    doing: str = UNKNOWN
    frames: list[Frame] = []  # the most recent call last, from the task's function on
    waits_in: str = ""  # the kernel's function, or the type of what a coroutine awaits
    problem: str = ""  # why there are no frames


class Thread(msgspec.Struct, frozen=True):
    """One thread of this process: Python's number of it, and the system's."""

    ident: int
    system_id: int


Where = list[tuple[str, int, str]]


def system_ids() -> dict[int, int]:
    """The system's number of each thread by Python's."""
    return {t.ident: t.native_id for t in threading.enumerate() if t.ident and t.native_id}


def of_thread(frame: FrameType | None) -> Where:
    """The calls that led to this frame, the most recent last."""
    found: Where = []
    while frame is not None:
        found.append((frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_name))
        frame = frame.f_back
    return found[::-1]


def of_coroutine(coroutine: Any) -> tuple[Where, str]:
    """The calls from a coroutine down to what it awaits, and the type of that. It may go on meanwhile: what
    is told was seen twice the same, if it waits at all."""
    seen = _awaits(coroutine)
    for _ in range(3):
        again = _awaits(coroutine)
        if again == seen:
            break
        seen = again
    return seen


def _awaits(coroutine: Any) -> tuple[Where, str]:
    found: Where = []
    while coroutine is not None:
        for kind in ("cr", "gi", "ag"):
            frame = getattr(coroutine, f"{kind}_frame", None)
            if frame is not None:
                found.append((frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_name))
                coroutine = getattr(coroutine, "gi_yieldfrom" if kind == "gi" else f"{kind}_await", None)
                break
        else:
            inner = _inside(coroutine)
            if inner is None:
                # An object of the C accelerator stands for the future it iterates over.
                return found, type(coroutine).__name__.removesuffix("Iter")
            coroutine = inner
    return found, ""


def _inside(awaited: Any) -> Any:
    """The coroutine behind the object that its __await__() returned, which names it nowhere; else None."""
    if type(awaited).__name__ != "coroutine_wrapper":
        return None
    return next((one for one in gc.get_referents(awaited) if hasattr(one, "cr_frame")), None)


def of_text(text: str) -> Where:
    """The calls of the last stack that faulthandler wrote, the most recent last."""
    last = text[text.rfind("(most recent call first)") :]
    return [(file, int(line), function) for file, line, function in _LINE.findall(last)][::-1]


def frames(where: Where) -> list[Frame]:
    """The frames of a task's own code: without those of this package that called it."""
    inner = where
    for number, (file, _, _) in enumerate(where):
        if file == _RUN:
            inner = where[number:]
            break
    own = next((n for n, (file, _, _) in enumerate(inner) if not file.startswith(_HERE)), 0)
    # A file that has changed since it was imported would be quoted wrongly, as in any traceback.
    return [
        Frame(file, line, function, linecache.getline(file, line).strip())
        for file, line, function in inner[own:][-MOST_FRAMES:]
    ]


def watch_threads(
    wanted: Mapping[int, Thread], pause: Callable[[float], None] = time.sleep
) -> dict[int, Stack]:
    """The stack of the thread that runs each job, and what the thread does.

    Who neither computes nor waits anew is blocked in C. Who computes while this thread keeps the interpreter
    lock is in C too: whoever executes Python code must wait for it.
    """
    if not wanted:
        return {}
    pid, interval_s = os.getpid(), sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)  # else each step waits 5 ms for a thread that computes
    try:
        before = {number: thread_activity(pid, one.system_id) for number, one in wanted.items()}
        current = sys._current_frames()
        where = {number: of_thread(current.get(one.ident)) for number, one in wanted.items()}
        del current  # a frame that is kept keeps its variables
        computing: set[int] = set()
        for _ in range(HOLDS):
            pause(WATCH_S / HOLDS)
            computing |= _computing_in_c(wanted)
        after = {number: thread_activity(pid, one.system_id) for number, one in wanted.items()}
        found = {number: Stack(number, frames=frames(where[number])) for number in wanted}
        for number, stack in found.items():
            was, now = before[number], after[number]
            if was is None or now is None:
                continue
            stack.doing = C_COMPUTE if number in computing else PYTHON
            if now.is_blocked_since(was):
                stack.doing = C_WAIT
                stack.waits_in = kernel_wait(pid, wanted[number].system_id)
            if not stack.frames:
                stack.problem = "it has ended meanwhile"
    finally:
        sys.setswitchinterval(interval_s)
    return found


def _computing_in_c(threads: Mapping[int, Thread]) -> set[int]:
    """Who used the processor while this thread kept the interpreter lock for a moment: in one call into C, in
    which nobody can take it away."""
    clocks: list[Callable[[], float]] = [
        partial(time.clock_gettime, _cpu_clock(one.system_id)) for one in threads.values()
    ]
    clocks.append(partial(time.clock_gettime, time.CLOCK_MONOTONIC))
    hold, call = partial(sum, itertools.repeat(0, HOLD_STEPS)), cast(Any, operator.call)
    try:
        times: list[float] = list(map(call, (*clocks, hold, *clocks)))
    except OSError:  # one has ended, or the system has no such clocks
        return set()
    used = [after - before for before, after in zip(times, times[len(clocks) + 1 :], strict=False)]
    return {number for number, cpu_s in zip(threads, used, strict=False) if cpu_s > used[-1] / 3}


def _cpu_clock(thread: int) -> int:
    """The clock of Linux that tells the processor time of a thread, by its system id."""
    return (~thread << 3) | 6


def in_order(numbers: Iterable[int], found: Mapping[int, Stack]) -> list[Stack]:
    """One Stack for each number."""
    return [
        found[n] if n in found else Stack(n, problem="it has ended, or has not begun, meanwhile")
        for n in numbers
    ]
