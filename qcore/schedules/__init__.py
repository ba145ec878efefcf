"""Kinds of schedules: when a periodic task runs.

    from qcore.schedules import crontab, schedule, solar

In:  Celery's schedule objects, the specs of stored entries, texts of a command line.  Out: instants.
`specs.py` converts between them, `instants.py` computes the instants of a spec, `classes.py` has the
classes. Nothing here reads a clock or a store, except the classes where Celery's do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qcore.schedules.classes import BaseSchedule as BaseSchedule
    from qcore.schedules.classes import crontab as crontab
    from qcore.schedules.classes import maybe_schedule as maybe_schedule
    from qcore.schedules.classes import schedstate as schedstate
    from qcore.schedules.classes import schedule as schedule
    from qcore.schedules.classes import solar as solar
    from qcore.schedules.fields import ParseException as ParseException
    from qcore.schedules.fields import crontab_parser as crontab_parser

_WHERE = {
    "BaseSchedule": "qcore.schedules.classes",
    "ParseException": "qcore.schedules.fields",
    "crontab": "qcore.schedules.classes",
    "crontab_parser": "qcore.schedules.fields",
    "maybe_schedule": "qcore.schedules.classes",
    "schedstate": "qcore.schedules.classes",
    "schedule": "qcore.schedules.classes",
    "solar": "qcore.schedules.classes",
}

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    """Import names at their first use: commands that know no schedules do not pay for them."""
    import importlib

    if name not in _WHERE:
        raise AttributeError(f"module 'qcore.schedules' has no attribute '{name}'")
    return getattr(importlib.import_module(_WHERE[name]), name)
