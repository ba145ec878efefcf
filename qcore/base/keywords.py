"""Keywords of an app, a task and a call: which are known, and which are misspelt.

In:  the names that were given.  Out: nothing, or a TypeError that names what was meant.
Unknown names that resemble none of ours are left alone: a task keeps them as attributes and a message
carries them, since packages for Celery read both.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

#: how alike two names are when one is taken for a misspelling of the other, from 0 to 1
ALIKE = 0.82

#: options of one call: ours, and those of Celery that have no effect on the message here
CALL = frozenset(
    "task_id queue exchange routing_key priority countdown eta expires headers serializer compression "
    "time_limit soft_time_limit ignore_result shadow link link_error retries retry reply_to root_id "
    "parent_id group_id group_index chord chain stamped_headers stamps idempotency_key add_to_parent "
    "immutable args kwargs argsrepr kwargsrepr".split()
)
#: Celery's, which are about its own client: no property of a message
CALL_OF_CELERY = frozenset(
    "producer connection publisher router result_cls route_name task_type replaced_task_nesting "
    "retry_policy delivery_mode mandatory immediate declare exchange_type create_sent_event timeout "
    "confirm_timeout".split()
)
_CALL_KNOWN = CALL | CALL_OF_CELERY
#: those of them that have no effect here, and why
CALL_WITHOUT_EFFECT = {
    "immediate": "no supported broker has it",
    "create_sent_event": "the setting task_send_sent_event decides",
}
#: those that only a single call can have: app/rare_options.py
CALL_ALONE = frozenset("declare publisher result_cls route_name router task_type".split())
#: stands for the router of a call whose route is known
ROUTED = object()
_CALL_QUIET = _CALL_KNOWN - CALL_WITHOUT_EFFECT.keys() - CALL_ALONE
_said: set[str] = set()

#: options of the task decorators that are no attributes of Task
TASK = frozenset(
    "base name bind shared lazy filter pydantic pydantic_strict pydantic_context pydantic_dump_kwargs".split()
)

#: keywords of App that are no settings
APP = frozenset(
    "main broker backend include config_source set_as_current namespace task_cls "
    "strict_typing changes".split()
)
#: Celery's keywords of an app for which there is nothing here
APP_OF_CELERY = frozenset(
    "loader amqp events log control tasks fixups autofinalize config_source_silent".split()
)

#: options of Celery's worker that ask for what is so anyway
WORKER_OF_CELERY = frozenset("without_mingle optimization quiet".split())


def check_call(options: Mapping[str, Any]) -> bool:
    """Raises TypeError when one of the options of a call is a misspelling of one of ours. Says once in each
    process that an option has no effect. Returns whether one is of CALL_ALONE."""
    is_alone = False
    if not _CALL_QUIET.issuperset(options):
        for name in options:
            _refuse_misspelt("call", name, _CALL_KNOWN)
            if name in CALL_WITHOUT_EFFECT and name not in _said:
                _said.add(name)
                why = CALL_WITHOUT_EFFECT[name]
                logging.getLogger("qcore.app").warning("the option %s of a call has no effect: %s", name, why)
            is_alone = is_alone or (name in CALL_ALONE and options[name] is not ROUTED)
    return is_alone


def check_call_of_many(options: Mapping[str, Any]) -> None:
    """As check_call(), for calls that are sent together: says once that an option has no effect on them."""
    if check_call(options):
        for name in CALL_ALONE & options.keys() - _said:
            _said.add(name)
            words = "the option %s has no effect on calls that are sent together"
            logging.getLogger("qcore.app").warning(words, name)


def unknown_to_calls(options: Iterable[str]) -> list[str]:
    """The options that are neither ours nor Celery's own: they travel as properties of the message."""
    return [] if _CALL_KNOWN.issuperset(options) else [o for o in options if o not in _CALL_KNOWN]


def check_task(options: Iterable[str], base: type) -> None:
    """Raises TypeError when one of the options of a task is a misspelling. Attributes of `base` are known."""
    if unknown := [n for n in options if n not in TASK and (n[:1] == "_" or not hasattr(base, n))]:
        known = TASK | {n for n in dir(base) if n[0] != "_"}  # costly
        for name in unknown:
            _refuse_misspelt("task", name, known)


def take_out_celerys(options: dict[str, Any]) -> None:
    """Remove the options that Celery knows and that ask for what is done anyway.

    Raises TypeError for those that ask for something else.
    """
    options.pop("lazy", None)  # a task is made when it is decorated, which nobody can tell from later
    if options.pop("filter", None):
        raise TypeError("a shared task has no option 'filter'; decorate the function instead")


def check_app(names: Iterable[str], settings: frozenset[str]) -> None:
    """Raises TypeError for keywords of an app that are not its own and cannot be settings.

    settings: names of settings without an underscore. Names with one are checked as settings are.
    """
    for name in names:
        _refuse_misspelt("app", name, APP)
        if name in APP_OF_CELERY or ("_" not in name and name not in settings):
            raise TypeError(
                f"an app has no keyword '{name}'; its keywords are {', '.join(sorted(APP))} and settings"
            )


def check_worker(names: Iterable[str], known: Iterable[str]) -> None:
    """Raises TypeError for keywords of a worker that are not among the known ones."""
    for name in names:
        if name not in WORKER_OF_CELERY:
            _refuse_misspelt("worker", name, known)
            raise TypeError(f"a worker has no option '{name}'; `qctl worker --help` lists them")


def user_options(app: Any, program: str) -> dict[str, Any]:
    """The options that a project adds to `qctl PROGRAM` or to all programs (`app.user_options`), by the names
    of their values."""
    found = getattr(app, "user_options", None) or {}
    return {str(option.name): option for key in (program, "preload") for option in found.get(key, ())}


def check_accepted(call: str, given: Iterable[str], own: str, celerys: str = "") -> None:
    """Raises TypeError for keywords of `call` that it does not have. own: its keywords, with blanks between
    them; celerys: those of Celery that have no meaning here and are accepted for its sake."""
    for name in given:
        if name not in celerys.split():
            _refuse_misspelt(call, name, [*own.split(), *celerys.split()])
            raise TypeError(f"{call} has no keyword '{name}'; it has {', '.join(own.split())}")


def _refuse_misspelt(kind: str, name: str, known: Iterable[str]) -> None:
    if name in known:
        return
    from difflib import get_close_matches  # needed only once something is unknown

    # Two letters exchanged make short names less alike than the bound asks for.
    near = get_close_matches(name, known, n=1, cutoff=ALIKE) or [k for k in known if _same_letters(k, name)]
    if near:
        a_kind = {"app": "an app", "call": "a call", "task": "a task", "worker": "a worker"}.get(kind, kind)
        raise TypeError(f"{a_kind} has no option '{name}'; did you mean '{near[0]}'?")


def _same_letters(one: str, other: str) -> bool:
    return len(one) > 3 and sorted(one) == sorted(other)
