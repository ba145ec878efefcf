"""Celery's settings that have no effect here, with Celery's defaults: they can be set and read as in Celery.

Source: `celery.app.defaults` of Celery 5.7. A setting that gets an effect moves to table.py.
"""

from __future__ import annotations

import math
from typing import Any

_NONE = (
    "beat_remote_control_max_tick_age cassandra_entry_ttl cassandra_keyspace cassandra_port "
    "cassandra_read_consistency cassandra_servers cassandra_bundle_path cassandra_table "
    "cassandra_write_consistency cassandra_auth_provider cassandra_auth_kwargs s3_access_key_id "
    "s3_secret_access_key s3_bucket s3_base_path s3_endpoint_url s3_region gcs_bucket gcs_project "
    "couchbase_backend_settings arangodb_backend_settings mongodb_backend_settings "
    "redis_max_connections result_failure_expires result_persistent "
    "elasticsearch_retry_on_timeout elasticsearch_max_retries elasticsearch_timeout "
    "worker_agent worker_eta_task_limit worker_state_db "
    "worker_timer redis_backend_health_check_interval redis_backend_credential_provider "
    "dynamodb_endpoint_url gcs_threadpool_maxsize "
).split()

DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(_NONE),
    "beat_enable_remote_control": False,
    "broker_channel_error_retry": False,
    "broker_heartbeat_checkrate": 3.0,
    "cassandra_options": {},
    "azureblockblob_container_name": "celery",
    "azureblockblob_retry_initial_backoff_sec": 2,
    "azureblockblob_retry_increment_base": 2,
    "azureblockblob_retry_max_attempts": 3,
    "azureblockblob_base_path": "",
    "azureblockblob_connection_timeout": 20,
    "azureblockblob_read_timeout": 120,
    "gcs_base_path": "",
    "gcs_ttl": 0,
    "control_queue_exclusive": True,
    "control_queue_durable": False,
    "cosmosdbsql_database_name": "celerydb",
    "cosmosdbsql_collection_name": "celerycol",
    "cosmosdbsql_consistency_level": "Session",
    "cosmosdbsql_max_retry_attempts": 9,
    "cosmosdbsql_max_retry_wait_time": 30,
    "event_queue_prefix": "celeryev",
    "event_queue_exclusive": True,
    "event_queue_durable": False,
    "redis_retry_on_timeout": False,
    "redis_socket_keepalive": False,
    "result_cache_max": -1,
    "result_exchange": "celeryresults",
    "result_exchange_type": "direct",
    "result_chord_retry_interval": 1.0,
    "result_chord_join_timeout": 3.0,
    "result_backend_max_sleep_between_retries_ms": 10000,
    "result_backend_max_retries": math.inf,
    "result_backend_base_sleep_between_retries_ms": 10,
    "result_backend_always_retry": False,
    "elasticsearch_save_meta_as_text": True,
    "database_create_tables_at_setup": True,
    "task_retry_on_worker_lost": False,
    "task_repr_maxlevels": 3,
    "worker_autoscaler": "celery.worker.autoscale:Autoscaler",
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_enable_soft_shutdown_on_idle": False,
    "worker_consumer": "celery.worker.consumer:Consumer",
    "worker_lost_wait": 10.0,
    "worker_pool_putlocks": True,
    "worker_pool_start_method": "fork",
    "worker_proc_alive_timeout": 4.0,
    "worker_enable_prefetch_count_reduction": True,
    "worker_timer_precision": 1.0,
    "worker_detect_quorum_queues": True,
}
