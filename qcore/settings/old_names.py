"""Setting names from before Celery 4, in capitals, and their current names.

In:  CELERYD_CONCURRENCY.  Out: worker_concurrency.  Source: the old names that Celery 5.7 still accepts.
"""

from __future__ import annotations

_PREFIXES = (("celery_task_", "task_"), ("celeryd_", "worker_"), ("celerybeat_", "beat_"), ("celery_", ""))

#: CELERY_X names that became task_x
_TASK = frozenset(
    "acks_late acks_on_failure_or_timeout acks_on_failure acks_on_timeout always_eager annotations "
    "create_missing_queues create_missing_queue_type create_missing_queue_exchange_type "
    "inherit_parent_priority default_delivery_mode default_queue default_queue_type default_exchange "
    "default_exchange_type default_routing_key default_rate_limit default_priority ignore_result "
    "store_eager_result queues queue_max_priority reject_on_worker_lost retry_on_worker_lost "
    "remote_tracebacks repr_maxlevels routes store_errors_even_if_ignored track_started "
    "allow_error_cb_on_chord_header".split()
)
#: CELERY_X names that became worker_x
_WORKER = frozenset(
    "disable_rate_limits enable_remote_control redirect_stdouts redirect_stdouts_level".split()
)
_OTHER = {
    "CELERY_MAX_CACHED_RESULTS": "result_cache_max",
    "CELERY_TASK_RESULT_EXPIRES": "result_expires",
    "CELERY_RESULT_DBURI": "database_url",
    "CELERY_RESULT_ENGINE_OPTIONS": "database_engine_options",
    "CELERY_RESULT_DB_SHORT_LIVED_SESSIONS": "database_short_lived_sessions",
    "CELERY_RESULT_DB_TABLENAMES": "database_table_names",
    "CELERY_MESSAGE_COMPRESSION": "task_compression",
    "CELERY_EAGER_PROPAGATES_EXCEPTIONS": "task_eager_propagates",
    "CELERY_SEND_TASK_SENT_EVENT": "task_send_sent_event",
    "CELERYD_TASK_SOFT_TIME_LIMIT": "task_soft_time_limit",
    "CELERYD_TASK_TIME_LIMIT": "task_time_limit",
    "CELERYD_WORKER_LOST_WAIT": "worker_lost_wait",
    "CELERY_SEND_EVENTS": "worker_send_task_events",
}


def new_name(old: str) -> str:
    """The current name of a setting in capitals; for unknown ones the likely name."""
    if old in _OTHER:
        return _OTHER[old]
    lower = old.lower()
    bare = lower.removeprefix("celery_")
    if bare != lower and bare in _TASK:
        return f"task_{bare}"
    if bare != lower and bare in _WORKER:
        return f"worker_{bare}"
    for prefix, now in _PREFIXES:
        if lower.startswith(prefix):
            return now + lower.removeprefix(prefix)
    return lower
