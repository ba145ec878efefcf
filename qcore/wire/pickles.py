"""Pickled bodies and results: written for those who ask for them, read where they are accepted by name.

In:  a value.  Out: bytes that Celery reads as well; and back, which runs code that the writer has chosen.
Before this: content.py, which imports this module at the first pickle.
"""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from typing import Any

from qcore import errors

_WRAPPER = "UnpickleableExceptionWrapper"


class _Pickler(pickle.Pickler):
    """Signatures and the lists of a chain are written as the plain values that they are on the wire, so that
    a process without qcore can read them."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, dict | list) and type(value).__module__.startswith("qcore."):
            plain = dict if isinstance(value, dict) else list
            return plain, (plain(value),)
        return NotImplemented


class UnpickleableExceptionWrapper(Exception):
    """What Celery stores in the place of an exception that cannot be pickled."""

    def __init__(self, exc_module: str, exc_cls_name: str, exc_args: Any, text: str | None = None) -> None:
        args = tuple(one if survives(one) else repr(one) for one in exc_args)
        super().__init__(exc_module, exc_cls_name, args, text)
        self.exc_module, self.exc_cls_name = exc_module, exc_cls_name
        self.exc_args, self.text = args, text

    @classmethod
    def from_exception(cls, exc: BaseException) -> UnpickleableExceptionWrapper:
        """With the names, arguments, text and traceback of an exception."""
        kind = type(exc)
        made = cls(kind.__module__, kind.__name__, getattr(exc, "args", ()), repr(exc))
        return made.with_traceback(exc.__traceback__)

    def restore(self) -> BaseException:
        """An exception of a class with the name and module of the original's, and with its arguments."""
        found: BaseException = class_named(self.exc_cls_name, self.exc_module, Exception)(*self.exc_args)
        return found

    def __str__(self) -> str:
        return self.text or f"{self.exc_cls_name}{self.exc_args}"


def class_named(name: str, module: str, parent: type) -> type:
    """A new class with the name of one that cannot be imported."""
    return type(name, (parent,), {"__module__": module})


class _Unpickler(pickle.Unpickler):
    """Reads the exceptions of Celery also where Celery is not installed."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError):
            found = UnpickleableExceptionWrapper if name == _WRAPPER else vars(errors).get(name)
            if module.startswith(("celery.", "billiard.")) and isinstance(found, type):
                return found
            raise


def dump(value: Any) -> bytes:
    """Raises what pickle and the classes of the value raise."""
    file = io.BytesIO()
    # kombu's protocol, and its variable
    _Pickler(file, int(os.environ.get("PICKLE_PROTOCOL", 4))).dump(value)
    return file.getvalue()


def load(raw: bytes) -> Any:
    """Raises what pickle and the classes of the value raise."""
    return _Unpickler(io.BytesIO(raw)).load()


def survives(value: Any, loads: Callable[[Any], Any] = load, dumps: Callable[[Any], Any] = dump) -> bool:
    """Whether a value can be pickled and read again."""
    try:
        loads(dumps(value))
    except Exception:  # of any class in it
        return False
    return True
