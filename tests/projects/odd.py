"""Tasks that behave oddly, or have odd options, for tests of what a worker makes of that."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from qcore import App
from qcore.errors import Reject
from qcore.worker.process.log_setup import get_task_logger
from tests.projects.proj import note

app = App("odd")


@app.task(name="odd.early", acks_late=False)
def early(path: str, seconds: float) -> str:
    """Acknowledged before it runs."""
    note(path, "early")
    time.sleep(seconds)
    note(path, "done early")
    return "early"


@app.task(name="odd.imported")
def imported(prefix: str) -> list[str]:
    """The modules with this prefix that the process has."""
    return sorted(name for name in sys.modules if name.startswith(prefix))


@app.task(name="odd.kill_server")
def kill_server() -> None:
    """End the process that has forked this one, as the kernel does when memory is short."""
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(30)


class Own(BaseException):
    """An exception that is no Exception."""


@app.task(name="odd.raise_it")
def raise_it(kind: str) -> None:
    kinds: dict[str, type[BaseException]] = {
        "SystemExit": SystemExit,
        "KeyboardInterrupt": KeyboardInterrupt,
        "GeneratorExit": GeneratorExit,
        "Own": Own,
    }
    raise kinds[kind](3)


@app.task(name="odd.raise_async")
async def raise_async(kind: str) -> None:
    raise_it.run(kind)


@app.task(name="odd.close_output")
def close_output(how: str) -> int:
    """Close standard output, or its descriptor; the process that did it."""
    if how == "stream":
        with sys.stdout:
            sys.stdout.writelines(["part ", "of a line"])
            sys.stdout.buffer.write(b" in bytes")
        sys.stdout.close()
    else:
        os.close(1)
    return os.getpid()


@app.task(name="odd.speak")
def speak(text: str) -> int:
    print(text, flush=True)
    return os.getpid()


class Loud(Exception):
    """Its repr is its text, as it is."""

    def __repr__(self) -> str:
        return str(self)


@app.task(name="odd.loud", bind=True, max_retries=1)
def loud(self: Any, text: str, how: str) -> str:
    """Bring a text into the log, by one of the ways that there are."""
    log = get_task_logger(__name__)
    if how == "print":
        print(text)
    elif how == "log":
        log.warning("argument %s", text)
        log.warning(text)
    elif how == "raise":
        raise Loud(text)
    elif how == "logged":
        try:
            raise Loud(text)
        except Loud:
            log.exception("caught")
    elif how == "retry":
        raise self.retry(exc=Loud(text), countdown=0)
    elif how == "reject":
        raise Reject(text)
    return text
