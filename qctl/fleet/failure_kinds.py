"""One identity for a failure, whoever told of it: the task and the class of the exception.

In:  the texts of events and results, types of the store of failed tasks.  Out: the class, and a key.
The store names a class with its module, an event only prints the exception; its traceback ends with the
qualified name.
"""

from __future__ import annotations

import re

_REPR = re.compile(r"^([A-Za-z_][\w.]*)\(")
_LAST_LINE = re.compile(r"^([A-Za-z_][\w.]*)(?::|$)")
#: Celery's parent process wraps what it raises itself; the traceback has the class
_WRAPPERS = frozenset(("", "ExceptionWithTraceback"))
#: beginnings of the sentences in qcore's events of runs that ended without an exception
_SENTENCES = (
    ("the process running it ended", "WorkerLostError"),
    ("hard time limit of ", "TimeLimitExceeded"),
    ("unregistered: ", "NotRegistered"),
)


def kind_of(exception: str, traceback: str) -> str:
    """The class of an exception, with its module where the traceback tells it; '' if it is unknown."""
    for words, kind in _SENTENCES:
        if exception.startswith(words):
            return kind
    found = _REPR.match(exception)
    printed = found[1] if found else ""
    if printed in _WRAPPERS:
        return _raised(traceback)
    return _qualified(traceback, last_part(printed)) or printed


def _qualified(traceback: str, name: str) -> str:
    """The name of a class as the last line that begins with it has it, with its module."""
    end = traceback.rfind(f"{name}:")
    end = end if end >= 0 else traceback.rfind(name)
    if end < 0:
        return ""
    found = traceback[traceback.rfind("\n", 0, end) + 1 : end + len(name)]
    whole = found == name or found.endswith(f".{name}")
    return found if whole and all(part.isidentifier() for part in found.split(".")) else ""


def _raised(traceback: str) -> str:
    """The class in the last line of a traceback that is not indented; a message may have several lines, so
    only the lines after the last frame count."""
    lines = traceback.rstrip().splitlines()
    frames = [number for number, line in enumerate(lines) if line.startswith('  File "')]
    for line in lines[frames[-1] + 1 :] if frames else lines[-1:]:
        if not line.startswith(" ") and (found := _LAST_LINE.match(line)):
            return found[1]
    return ""


def last_part(kind: str) -> str:
    """The name of a class without its module."""
    return kind.rpartition(".")[2]


def key_of(name: str, kind: str) -> tuple[str, str]:
    """The identity of a failure: events may lack the module of the class."""
    return name, last_part(kind)
