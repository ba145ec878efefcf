"""`celery.utils.serialization`: exceptions for programs that pickle them themselves.

In:  an exception or its class.  Out: one that can be pickled, and read where its class is not known; and
back. qcore's own results hold exceptions as JSON, or as wire/pickles.py writes them.
Source: the behaviour of Celery 5.7; a test compares each of them.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, TypeAlias

from qcore.wire.pickles import UnpickleableExceptionWrapper, class_named, survives

Dumps: TypeAlias = Callable[[Any], Any]
Loads: TypeAlias = Callable[[Any], Any]


def subclass_exception(name: str, parent: type, module: str) -> type:
    """A new class of exceptions that says that it is of `module`."""
    return class_named(name, module, parent)


def create_exception_cls(name: str, module: str, parent: type | None = None) -> type:
    """A new class of exceptions; the base is Exception unless it is given."""
    return class_named(name, module, parent or Exception)


def find_pickleable_exception(
    exc: BaseException, loads: Loads = pickle.loads, dumps: Dumps = pickle.dumps
) -> BaseException | None:
    """An exception with the same arguments, of the nearest of its classes below Exception that can be pickled
    with them; None if there is none."""
    for kind in type(exc).__mro__:
        if kind in (Exception, BaseException, object):
            return None
        try:
            found: BaseException = kind(*getattr(exc, "args", ()))
            loads(dumps(found))
        except Exception:  # of any class: the next one is tried
            continue
        return found
    return None


def get_pickleable_exception(exc: BaseException) -> BaseException:
    """`exc` if it can be pickled, else the nearest that can, else an UnpickleableExceptionWrapper."""
    if survives(exc, pickle.loads, pickle.dumps):
        return exc
    return find_pickleable_exception(exc) or UnpickleableExceptionWrapper.from_exception(exc)


def get_pickleable_etype(cls: type, loads: Loads = pickle.loads, dumps: Dumps = pickle.dumps) -> type:
    """`cls` if it can be pickled, else Exception."""
    return cls if survives(cls, loads, dumps) else Exception


def get_pickled_exception(exc: BaseException) -> BaseException:
    """What get_pickleable_exception() was given: of a wrapper the exception in it, else `exc` itself."""
    return exc.restore() if isinstance(exc, UnpickleableExceptionWrapper) else exc
