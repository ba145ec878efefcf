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
import linecache
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import FrameType
from typing import Any

import msgspec

from qcore.base.process_facts import ThreadActivity, kernel_wait, thread_activity
from qcore.execution.run import Run

#: what a task does: executes Python code; waits in a call into C; computes in a call into C, executing no
#: Python code; is a coroutine that awaits; is a greenlet that has let others run
PYTHON, C_WAIT, C_COMPUTE, AWAIT, SWITCHED = "python", "c_wait", "c_compute", "await", "switched"
UNKNOWN = "unknown"
#: the innermost frames of a stack that are told
MOST_FRAMES = 100
#: a thread is watched this long, in so many steps of asking for the interpreter lock, seconds
WATCH_S, STEPS = 0.024, 6
#: the switch interval of the interpreter meanwhile, seconds
SWITCH_S = 0.0005

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

    Whoever executes Python code must give the interpreter lock to this thread now and then, and waits for it
    afterwards; who neither waits anew nor computes is blocked in C; who computes and never waits is in C too.
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
        for _ in range(STEPS):
            pause(WATCH_S / STEPS)
        after = {number: thread_activity(pid, one.system_id) for number, one in wanted.items()}
        found = {number: Stack(number, frames=frames(where[number])) for number in wanted}
        for number, stack in found.items():
            stack.doing = doing(before[number], after[number])
            if stack.doing == C_WAIT:
                stack.waits_in = kernel_wait(pid, wanted[number].system_id)
            if not stack.frames:
                stack.problem = "it has ended meanwhile"
    finally:
        sys.setswitchinterval(interval_s)
    return found


def doing(before: ThreadActivity | None, after: ThreadActivity | None) -> str:
    """What a thread did between two looks, if it had to give up the interpreter lock meanwhile."""
    if before is None or after is None:
        return UNKNOWN
    if after.is_blocked_since(before):
        return C_WAIT
    if after.waits == before.waits and after.cpu_s - before.cpu_s > WATCH_S / 4:
        return C_COMPUTE
    return PYTHON


def in_order(numbers: Iterable[int], found: Mapping[int, Stack]) -> list[Stack]:
    """One Stack for each number."""
    return [
        found[n] if n in found else Stack(n, problem="it has ended, or has not begun, meanwhile")
        for n in numbers
    ]
