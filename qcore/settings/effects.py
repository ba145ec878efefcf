"""What differs from Celery for each setting: those without effect here, and those with another effect.

A setting that has its effect in some cases only, in Celery too, is in ALIKE.

In:  the settings of an app.  Out: a sentence for each setting without effect that it sets, for the start of a
worker and of `qctl beat`, for `qctl doctor` and for `qctl config explain`.
A setting that gets an effect leaves NO_EFFECT and moves from celery_defaults.py to table.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from qcore.settings.celery_defaults import DEFAULTS
from qcore.settings.stores import STORES, UNTESTED, scheme_of
from qcore.settings.table import TABLE

#: a warning names more settings than this in one line
MOST_LINES = 5

_CLASSES = "only for backend classes of other packages and of Celery"
_CHORDS = "only for chords that are not counted by members: celery.chord_unlock, and dynamodb and gs results"
_UNREAD = "no class of Celery reads it either"
_EXCHANGE = "results have no exchange of their own; no class of Celery gives them one either"
_SHARED = "only where result_backend is Redis; where it is the broker too, for the connections of both"
_BUNDLE = "nor in Celery, whose class reads cassandra_secure_bundle_path"
_BUS = "only on RabbitMQ; on Redis a subscription takes the place of the queue"

_OF_BUS_QUEUES = (
    *("control_queue_durable", "control_queue_exclusive", "control_queue_ttl"),
    *("event_queue_durable", "event_queue_exclusive", "event_queue_expires"),
    *("event_queue_prefix", "event_queue_ttl"),
)

#: setting -> why it has no effect, or what replaces it: a clause that follows a colon
NO_EFFECT: dict[str, str] = {
    # broker
    "broker_channel_error_retry": "the worker reconnects after every error of a connection or channel",
    # schedule
    # results
    "result_exchange": _EXCHANGE,
    "result_exchange_type": _EXCHANGE,
    "redis_max_connections": "each process has few connections, without a pool that could grow",
    "redis_retry_on_timeout": "a request that timed out is an outage, after which qcore connects again",
    "redis_socket_keepalive": "it is always on",
    # worker
    "worker_agent": "the worker is no actor of the package cell",
    "worker_autoscaler": "this worker scales its pool itself (--autoscale)",
    "worker_consumer": "the worker's consumer cannot be replaced; use a service (docs/architecture.md)",
    "worker_detect_quorum_queues": "prefetch limits are set for each consumer, which quorum queues need",
    "worker_enable_prefetch_count_reduction": (
        "after an outage the worker keeps what it runs and fetches no more than the prefetch limit"
    ),
    "worker_enable_soft_shutdown_on_idle": "delayed tasks wait in the broker; an idle worker has none",
    "worker_eta_task_limit": "delayed tasks wait in the broker, not in the worker's memory",
    "worker_lost_wait": "a process that ended is noticed at once",
    "worker_pool_putlocks": "a task is given to a process only when it is free",
    "worker_proc_alive_timeout": "a new process gets its first task when it is ready",
    "worker_timer": "the worker waits for the next event or due time itself",
    "worker_timer_precision": "the worker waits for the next event or due time itself",
    "azureblockblob_retry_initial_backoff_sec": _UNREAD,
    "azureblockblob_retry_increment_base": _UNREAD,
    "azureblockblob_retry_max_attempts": _UNREAD,
    "cassandra_bundle_path": _BUNDLE,
}

#: settings without effect that have none in Celery either
NOR_IN_CELERY = frozenset(name for name, words in NO_EFFECT.items() if words in (_UNREAD, _BUNDLE, _EXCHANGE))

#: setting -> where it has its effect, in Celery and here: a clause
ALIKE: dict[str, str] = {
    "broker_connection_retry": "a worker notices a lost connection when it next uses it",
    "result_failure_expires": "not where results stay until they are cleaned up, nor with rpc://",
    **dict.fromkeys(_OF_BUS_QUEUES, _BUS),
    "control_queue_expires": "on RabbitMQ; on Redis bindings of replies last twice as long, 1 hour or more",
    "task_remote_tracebacks": "only with the package tblib; else the text is a note of the exception here",
    "task_queue_max_priority": "only on RabbitMQ; Redis always has priorities 0 to 9",
    **dict.fromkeys(
        ("redis_backend_health_check_interval", "redis_client_name", "redis_socket_connect_timeout"), _SHARED
    ),
    "result_compression": "not in databases, caches and rpc://",
    "result_persistent": "only where result_backend is rpc",
    "worker_pool_start_method": "spawn runs the worker's command or script again; in no other program",
    "worker_state_db": "revoked ids stay so when workers start again; the broker stores them, and no file",
    **{
        row.name: "by Celery's own class, which must be installed"
        for row in STORES
        if row.name.partition("_")[0] in UNTESTED
    },
}

#: settings that nothing reads: what they ask for is so whatever their value
ANYWAY = frozenset(("worker_state_db",))

#: setting -> what differs from Celery where it has an effect: a clause
DIFFERENT: dict[str, str] = {
    "beat_schedule_filename": "only for a scheduler class that has a file",
    "beat_scheduler": "the default is qcore's scheduler, of which any number may run",
    "beat_sync_every": "only for a scheduler class",
    "broker_connection_max_retries": "at a worker's start; later the worker reconnects until it succeeds",
    "broker_pool_acquire_timeout": "only for kombu's connections, which qcore itself does not use",
    "broker_pool_limit": "only for kombu's connections; qcore has one or two connections in each process",
    "broker_read_url": "what a worker publishes together with a settlement goes there too",
    "broker_url": "without it the embedded SQLite broker is used, not RabbitMQ on this host",
    "redis_socket_timeout": "the default is that of the driver; only where result_backend is another server",
    **dict.fromkeys(
        (
            "result_backend_always_retry",
            "result_backend_base_sleep_between_retries_ms",
            "result_backend_max_retries",
            "result_backend_max_sleep_between_retries_ms",
        ),
        f"{_CLASSES}; elsewhere outcomes wait in the worker until the store has them",
    ),
    **dict.fromkeys(("result_chord_join_timeout", "result_chord_retry_interval"), _CHORDS),
    "result_backend": "without it the broker stores the results, if it can",
    "task_acks_late": "the default is true, Celery's is false",
    "task_queues": "without exchanges (SQLite, memory) a call is sent to the queue itself",
    "task_reject_on_worker_lost": "the default is true, Celery's is false",
    "worker_cancel_long_running_tasks_on_connection_loss": (
        "the state RETRY is stored only where the broker stores results"
    ),
    "worker_deduplicate_successful_tasks": "the default is true, Celery's is false",
    "worker_prefetch_multiplier": "0 means 10,000 messages for the worker, in Celery no limit",
    "worker_soft_shutdown_timeout": "it is the time of a warm shutdown, also without a second signal",
}

#: settings that Celery does not have
OWN = frozenset(
    "control_keys control_sign_key control_unsigned db_reuse_max failed_task_expires failed_tasks_max "
    "schedule_store task_idempotency_expires task_log_lines task_max_deliveries tracing "
    "worker_lease worker_store_failed".split()
)


def usual(name: str) -> Any:
    """The default of a setting."""
    return TABLE[name].default if name in TABLE else DEFAULTS.get(name)


def remark(name: str) -> str:
    """How a setting compares with Celery's: one clause."""
    if name in NO_EFFECT:
        return f"no effect: {NO_EFFECT[name]}"
    if name in DIFFERENT:
        return f"different: {DIFFERENT[name]}"
    if name in ALIKE:
        return f"as in Celery: {ALIKE[name]}"
    return "qcore's own" if name in OWN else "as in Celery"


def sentence(name: str) -> str:
    """What is to be said of a setting without effect."""
    if name in NO_EFFECT:
        return f"the setting {name} has no effect: {NO_EFFECT[name]}"
    return f"the setting {name} has no effect with these settings: {condition(name)}"


def condition(name: str) -> str:
    """Where a setting has an effect, for one that has none beside the others: a clause."""
    scheme = scheme_of(name)
    return (DIFFERENT | ALIKE)[name] if scheme is None else f"only where result_backend is {scheme}"


def without_effect(given: Mapping[str, Any]) -> list[str]:
    """The names of settings in `given` that have no effect, by themselves or beside the others; those that
    have their default are left out."""

    def is_idle(name: str) -> bool:
        return name in NO_EFFECT or (name in _WHERE and not _WHERE[name](given))

    return sorted(name for name, value in given.items() if is_idle(name) and value != usual(name))


def _broker_scheme(given: Mapping[str, Any]) -> str:
    names = ("broker_url", "broker_read_url", "broker_write_url", "broker_transport", "broker_host")
    url = next((given[name] for name in names if given.get(name)), "")
    first = str(url if isinstance(url, str) else next(iter(url)))
    is_host = bool(first) and "://" not in first and url == given.get("broker_host")  # its scheme is amqp
    return "amqp" if is_host else first.partition("://")[0]


def _at_rabbitmq(given: Mapping[str, Any]) -> bool:
    return _broker_scheme(given) in ("amqp", "amqps", "pyamqp")


def _at_redis(given: Mapping[str, Any]) -> bool:
    return _broker_scheme(given).startswith(("redis", "sentinel", "unix"))


def _has_scheduler_class(given: Mapping[str, Any]) -> bool:
    default = str(usual("beat_scheduler"))
    return given.get("beat_scheduler") not in (None, default, default.replace(":", "."), "qcore")


def _results_scheme(given: Mapping[str, Any]) -> str:
    return str(given.get("result_backend") or "").partition("://")[0].partition("+")[0]


def _results_in_redis(given: Mapping[str, Any]) -> bool:
    return _results_scheme(given) in ("redis", "rediss", "sentinel", "unix")


def _results_compressible(given: Mapping[str, Any]) -> bool:
    return _results_scheme(given) in (
        "",
        "redis",
        "rediss",
        "sentinel",
        "unix",
        "sqlite",
        "memory",
        "file",
        "cassandra",
        "dynamodb",
        "gs",
        "mongodb",
    )


def _results_expire(given: Mapping[str, Any]) -> bool:
    ours = _results_scheme(given) in ("", "sqlite", "memory", "cache")
    return ours or _results_in_redis(given) or _results_elsewhere(given)  # whose classes warn themselves


def _results_by(scheme: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda given: _results_scheme(given) == scheme


def _results_elsewhere(given: Mapping[str, Any]) -> bool:
    """Whether the result backend is a class of another package or of Celery."""
    ours = "redis rediss sentinel unix rpc db database cache file sqlite memory disabled".split()
    return _results_scheme(given) not in ("", *ours)


#: settings that have an effect only where others say so
_WHERE: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "result_failure_expires": _results_expire,
    **dict.fromkeys(("beat_schedule_filename", "beat_sync_every"), _has_scheduler_class),
    **dict.fromkeys((*_OF_BUS_QUEUES, "task_queue_max_priority"), _at_rabbitmq),
    "control_queue_expires": lambda given: _at_rabbitmq(given) or _at_redis(given),
    **dict.fromkeys(
        (
            "result_backend_always_retry",
            "result_backend_base_sleep_between_retries_ms",
            "result_backend_max_retries",
            "result_backend_max_sleep_between_retries_ms",
        ),
        _results_elsewhere,
    ),
    **{row.name: _results_by(str(scheme_of(row.name))) for row in STORES},
    "result_compression": _results_compressible,
    "result_persistent": _results_by("rpc"),
    **dict.fromkeys(
        (
            "redis_backend_credential_provider",
            "redis_backend_health_check_interval",
            "redis_client_name",
            "redis_socket_connect_timeout",
            "redis_socket_timeout",
        ),
        _results_in_redis,
    ),
}


def warn(given: Mapping[str, Any], log: logging.Logger) -> None:
    """Log a warning for each setting without effect in `given`, or one for all if they are many."""
    found = without_effect(given)
    if len(found) > MOST_LINES:
        log.warning(
            "these settings have no effect: %s; `qctl config explain NAME` says why", ", ".join(found)
        )
        return
    for name in found:
        log.warning("%s", sentence(name))
