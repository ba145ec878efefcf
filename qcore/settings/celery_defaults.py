"""Celery's settings that have no effect here, with Celery's defaults: they can be set and read as in Celery.

Source: `celery.app.defaults` of Celery 5.7. A setting that gets an effect moves to table.py.
"""

from __future__ import annotations

from typing import Any

_NONE = (
    "cassandra_bundle_path redis_max_connections worker_agent worker_eta_task_limit worker_timer"
).split()

DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(_NONE),
    "broker_channel_error_retry": False,
    "azureblockblob_retry_initial_backoff_sec": 2,
    "azureblockblob_retry_increment_base": 2,
    "azureblockblob_retry_max_attempts": 3,
    "redis_retry_on_timeout": False,
    "redis_socket_keepalive": False,
    "result_exchange": "celeryresults",
    "result_exchange_type": "direct",
    "worker_autoscaler": "celery.worker.autoscale:Autoscaler",
    "worker_enable_soft_shutdown_on_idle": False,
    "worker_consumer": "celery.worker.consumer:Consumer",
    "worker_lost_wait": 10.0,
    "worker_pool_putlocks": True,
    "worker_proc_alive_timeout": 4.0,
    "worker_enable_prefetch_count_reduction": True,
    "worker_timer_precision": 1.0,
    "worker_detect_quorum_queues": True,
}
