"""What differs in the settings of a project: unknown and old names, values that are refused, no effect.

In:  Settings.  Out: Findings. Source: the table of settings and what it says of Celery (qcore/settings/).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from qcore.app.periodic import OUR_FIELDS
from qcore.app.schedule_entries import CELERY_FIELDS
from qcore.brokers.registry import brokers
from qcore.errors import ConfigError, UnknownName, did_you_mean
from qcore.results.celery_stores import STORES
from qcore.results.registry import celery_backend, results
from qcore.settings.celery_defaults import DEFAULTS
from qcore.settings.config import canonical, is_misspelt
from qcore.settings.effects import ALIKE, NO_EFFECT, NOR_IN_CELERY, condition, usual, without_effect
from qcore.settings.effects import DIFFERENT as DIFFERS
from qcore.settings.table import TABLE
from qcore.settings.values import checked
from qctl.commands.check.findings import DIFFERENT, ERROR, NOTE, Finding, differences
from qctl.commands.check.settings_used import Settings, Use
from qctl.commands.check.source import Unknown

_URLS = ("broker_url", "broker_read_url", "broker_write_url", "result_backend")
#: brokers through kombu that are as in Celery
_OF_KOMBU = ("filesystem", "sqla", "sqlalchemy")
#: settings that differ only by their default, or where they are not set, or by a value that is checked here
_BY_VALUE = frozenset(
    name for name, clause in DIFFERS.items() if clause.startswith(("the default is", "without"))
) | {"worker_pool", "worker_prefetch_multiplier", "result_compression", "task_queue_max_priority"}
#: settings whose values decide whether others have an effect
_DECIDE = ("broker_url", "broker_read_url", "broker_write_url", "result_backend", "beat_scheduler")
_OPTIONS = {
    "broker_transport_options": "settings.transport_options_redis",
    "result_backend_transport_options": "settings.result_backend_transport_options_redis",
}
_PICKLE = ("pickle", "application/x-python-serialize")
_ROUTE_WITHOUT_EFFECT = ("retry", "time_limit", "soft_time_limit", "expires")


def check(settings: Settings) -> Iterator[Finding]:
    """The findings about the settings of a project."""
    yield from settings.found
    known: list[tuple[Use, str]] = []
    for use in settings.uses:
        name = _name(use)
        if name is None:
            yield from _unknown(use)
            continue
        known.append((use, name))
        if name != (use.name if use.is_old_safe else use.name.lower()):
            fix = "`qctl check --write` changes it" if use.is_old_safe else "both work"
            yield _of(NOTE, use, f"an old name; now it is {name}", fix)
        yield from _value(use, name)
    yield from _conflicts(known)
    yield from _effects(known)
    yield from _defaults(settings, {name for _, name in known})


def _of(level: str, use: Use, what: str, fix: str = "", node: ast.AST | None = None) -> Finding:
    return Finding(level, use.module.file, getattr(node or use.node, "lineno", None), use.written, what, fix)


def _name(use: Use) -> str | None:
    try:
        return canonical(use.name, keep=False)
    except UnknownName:
        return None


def _unknown(use: Use) -> Iterator[Finding]:
    lower = use.name.lower()
    near = did_you_mean(lower, [*TABLE, *DEFAULTS])
    if is_misspelt(lower):
        what = f"no setting named '{use.name}'{near}"
        if use.is_strict:
            yield _of(ERROR, use, what, "write the right name; the app refuses this one")
        else:
            yield _of(DIFFERENT, use, what, "write the right name; this one is ignored")
    elif use.is_strict:
        yield _of(
            NOTE, use, f"no setting of qcore's or Celery's{near}; it is kept for others, without effect"
        )


def _value(use: Use, name: str) -> Iterator[Finding]:
    value = use.value
    if name in _URLS:
        yield from _url(use, name)
    if isinstance(value, Unknown):
        return
    if name in TABLE:
        try:
            checked(TABLE[name], value)
        except ConfigError as exc:
            words = re.sub(r" \(.*\)$", "", str(exc), flags=re.S)  # the value, which may be a password
            yield _of(ERROR, use, words, "the app refuses this value")
            return
    if name == "accept_content" and isinstance(value, list | tuple) and set(_PICKLE) & {*map(str, value)}:
        what = "pickle is read: whoever can write to the broker chooses which code runs; a worker of root"
        yield _of(NOTE, use, f"{what} starts only with C_FORCE_ROOT=1", "prefer json")
    elif name == "worker_prefetch_multiplier" and value == 0:
        yield _of(DIFFERENT, use, DIFFERS[name], "set how many messages a worker may hold for each slot")
    elif name in _OPTIONS and isinstance(value, dict):
        yield from _options(use, _OPTIONS[name])
    elif name == "beat_schedule":
        yield from _entries(use)
    elif name == "task_routes":
        yield from _routes(use)


def _beginning(value: Any) -> str:
    """What is known of a URL, or of the first of several; '' for nothing."""
    first = value[0] if isinstance(value, list | tuple) and value else value
    text = first.beginning if isinstance(first, Unknown) else first
    return text if isinstance(text, str) else ""


def _url(use: Use, name: str) -> Iterator[Finding]:
    text = _beginning(use.value)
    if not text:
        return
    scheme = text.partition("://")[0]
    if name == "result_backend":
        yield from _store(use, text, scheme)
    elif "://" in text and brokers.aliases.get(scheme, scheme) not in brokers:
        rows = differences("broker_transports")
        if scheme.partition("+")[0] in _OF_KOMBU:
            return
        if scheme in rows:
            yield _of(DIFFERENT, use, f"the broker {scheme} is reached {rows[scheme].note}", "try it first")
        else:
            near = did_you_mean(scheme, [*brokers.names(), *brokers.aliases])
            yield _of(
                ERROR, use, f"no broker has the scheme '{scheme}'{near}", "use redis://, amqp:// or sqlite://"
            )


def _store(use: Use, text: str, scheme: str) -> Iterator[Finding]:
    bare = scheme.partition("+")[0]
    if bare in STORES:
        what = f"the class of Celery is used: Celery and {STORES[bare].library} must stay installed"
        yield _of(NOTE, use, what, f"pip install 'celery[{STORES[bare].extra}]'")
    elif bare in ("amqp", "pyamqp", "riak"):
        what = f"the result backend {bare} is not there; nor is it in Celery 5"
        yield _of(ERROR, use, what, "leave it out, or use redis://" if bare == "riak" else "use rpc://")
    elif (
        "://" in text
        and bare not in ("db", "cache", "database")
        and results.aliases.get(scheme, scheme) not in results
        and celery_backend(text) is None
    ):
        what = f"the result backend '{scheme}' is unknown here"
        yield _of(NOTE, use, what, "is it of a package? try it first")


def _options(use: Use, area: str) -> Iterator[Finding]:
    rows = differences(area)
    for key, node in _keys(use.value_node):
        if key in rows:
            yield Finding(
                DIFFERENT,
                use.module.file,
                node.lineno,
                f"{use.written}['{key}']",
                rows[key].note,
                "leave it out",
            )


def _entries(use: Use) -> Iterator[Finding]:
    known = (*CELERY_FIELDS, *OUR_FIELDS)
    for entry, node in _items(use.value_node):
        for key, place in _keys(node):
            if key not in known:
                what = f"the entry '{entry}' has the unknown key '{key}'{did_you_mean(key, known)}"
                yield Finding(ERROR, use.module.file, place.lineno, use.written, what, "the app refuses it")


def _routes(use: Use) -> Iterator[Finding]:
    for route, node in _items(use.value_node):
        for key, place in _keys(node):
            if key in _ROUTE_WITHOUT_EFFECT:
                what = f"the route '{route}' gives {key}, which has no effect in a route"
                yield Finding(
                    DIFFERENT, use.module.file, place.lineno, use.written, what, "give it to the task"
                )


def _items(node: ast.expr) -> Iterator[tuple[Any, ast.expr]]:
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant):
                yield key.value, value


def _keys(node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Dict):
        yield from (
            (k.value, k) for k in node.keys if isinstance(k, ast.Constant) and isinstance(k.value, str)
        )
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        yield from ((k.arg, k.value) for k in node.keywords if k.arg)


def _conflicts(known: list[tuple[Use, str]]) -> Iterator[Finding]:
    """Two names of one setting in one file with different values."""
    seen: dict[tuple[str, str], Use] = {}
    for use, name in known:
        other = seen.setdefault((use.module.file, name), use)
        of_module = type(other.node) is type(use.node) is ast.Name and other.written != use.written
        if of_module and ast.dump(other.value_node) != ast.dump(use.value_node):
            what = f"'{other.written}' and '{use.written}' are the same setting with different values"
            yield _of(ERROR, use, what, f"keep only '{name}'")


def _effects(known: list[tuple[Use, str]]) -> Iterator[Finding]:
    """Settings without effect, alone or beside the others, and those with another one."""
    given = {name: use.value for use, name in known}
    unclear = any(isinstance(given.get(name), Unknown) for name in _DECIDE)
    for name in _URLS:
        if name in given:
            given[name] = _beginning(given[name])
    idle = set(without_effect(given))
    for use, name in known:
        has_default = not isinstance(use.value, Unknown) and use.value == usual(name)
        if name in NO_EFFECT and not has_default:
            level = NOTE if name in NOR_IN_CELERY else DIFFERENT
            yield _of(level, use, f"no effect: {NO_EFFECT[name]}", "leave it out")
        elif name in idle and not unclear and not has_default:
            level = NOTE if name in ALIKE else DIFFERENT
            yield _of(level, use, f"no effect with these settings: {condition(name)}", "leave it out")
        elif name in DIFFERS and name not in _BY_VALUE and name not in idle and not has_default:
            yield _of(NOTE, use, DIFFERS[name])


def _defaults(settings: Settings, given: set[str]) -> Iterator[Finding]:
    """What differs since nothing is set, once for the first app of the project."""
    if not settings.apps or not settings.is_complete:
        return
    module, call = settings.apps[0]
    broker = {"broker_url", "broker_read_url", "broker_write_url", "broker_transport", "broker_host"}
    if not broker & given:
        what = f"the app has no broker_url: {DIFFERS['broker_url']}"
        fix = "set broker_url, or CELERY_BROKER_URL in the environment"
        yield Finding(DIFFERENT, module.file, call.lineno, "broker_url", what, fix)
    if "task_acks_late" not in given:
        what = f"task_acks_late is not set: {DIFFERS['task_acks_late']}, so a crash repeats a task"
        fix = "give a task that must not run twice acks_late=False or an idempotency_key"
        yield Finding(NOTE, module.file, call.lineno, "task_acks_late", what, fix)
