"""Every setting: name, type, default, meaning."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple


class Setting(NamedTuple):
    """One setting: its name, the types it takes, its default, what it does."""

    name: str
    types: tuple[type, ...]
    default: Any
    doc: str
    env: tuple[str, ...] = ()


_num = (int, float)


_opt_num = (int, float, type(None))


_seconds = (int, float, timedelta)


_opt_seconds = (int, float, timedelta, type(None))


_opt_str = (str, type(None))


_seq = (list, tuple, set, frozenset)


TABLE: dict[str, Setting] = {
    s.name: s
    for s in (
        # general
        Setting("accept_content", _seq, ("json",), "serializers that are read; pickle never is"),
        Setting("timezone", _opt_str, None, "zone of times without an offset; UTC when not set"),
        Setting("imports", _seq, (), "modules the worker imports at start"),
        Setting("include", _seq, (), "more modules the worker imports at start"),
        # broker
        Setting(
            "broker_url",
            (str, list, tuple, type(None)),
            None,
            "where tasks are queued; the embedded SQLite broker when not set",
            ("QCTL_BROKER_URL", "CELERY_BROKER_URL"),
        ),
        Setting("broker_read_url", _opt_str, None, "broker for workers, when it differs"),
        Setting(
            "broker_transport_options", (dict,), {}, "options of the driver (global_keyprefix, lease_s, …)"
        ),
        Setting(
            "broker_failover_strategy",
            (str,),
            "round-robin",
            "which server of a broker_url with several is tried next: round-robin or shuffle",
        ),
        Setting(
            "broker_use_ssl",
            (dict, bool, type(None)),
            None,
            "TLS to the broker: true, or a dict (ssl_ca_certs, ssl_certfile, ssl_keyfile, ssl_cert_reqs)",
        ),
        Setting("broker_connection_timeout", _num, 4.0, "seconds to wait for a connection"),
        Setting("broker_heartbeat", _opt_num, 60.0, "seconds between AMQP heartbeats; 0: none"),
        Setting(
            "broker_native_delayed_delivery_queue_type",
            (str,),
            "classic",
            "queue type of RabbitMQ's delay topology: classic or quorum",
        ),
        # results
        Setting(
            "result_backend",
            _opt_str,
            None,
            "where results are kept; the broker's own store when not set; 'disabled://' keeps none",
            ("QCTL_RESULT_BACKEND", "CELERY_RESULT_BACKEND"),
        ),
        Setting("result_backend_transport_options", (dict,), {}, "options of the result store"),
        Setting(
            "redis_backend_use_ssl",
            (dict, bool, type(None)),
            None,
            "TLS to a result store in Redis, as broker_use_ssl",
        ),
        Setting("result_expires", _opt_seconds, 86400.0, "seconds a result is kept; None or 0: for ever"),
        Setting(
            "result_chord_expires",
            _opt_seconds,
            None,
            "seconds the count of a chord is kept; None: as result_expires",
        ),
        Setting("result_extended", (bool,), False, "store name, args, kwargs, worker, queue with the result"),
        # tasks
        Setting("task_acks_late", (bool,), True, "acknowledge after the run; false: before it"),
        Setting("task_acks_on_failure_or_timeout", (bool,), True, "acknowledge failed runs too"),
        Setting(
            "task_reject_on_worker_lost",
            (bool, type(None)),
            None,
            "run again when the process died; true for late ack",
        ),
        Setting("task_always_eager", (bool,), False, "run tasks in the caller, for tests"),
        Setting("task_eager_propagates", (bool,), False, "eager tasks raise their exceptions"),
        Setting(
            "task_annotations",
            (dict, list, tuple, type(None)),
            None,
            "options set on tasks by name: {'proj.add': {'rate_limit': '10/s'}, '*': {…}}",
        ),
        Setting("task_compression", _opt_str, None, "compression of messages: gzip, bzip2, lzma"),
        Setting(
            "task_default_queue", (str,), "celery", "queue of tasks without one", ("QCTL_DEFAULT_QUEUE",)
        ),
        Setting(
            "task_default_queue_type", (str,), "classic", "RabbitMQ: type of that queue, classic or quorum"
        ),
        Setting(
            "task_create_missing_queue_type",
            (str,),
            "classic",
            "RabbitMQ: type of the other queues that are declared, classic or quorum",
        ),
        Setting("task_default_exchange", _opt_str, None, "exchange of the default queue"),
        Setting("task_default_routing_key", _opt_str, None, "its routing key"),
        Setting("task_default_priority", (int, type(None)), None, "priority of tasks without one, 0 to 9"),
        Setting(
            "task_default_rate_limit", (str, int, float, type(None)), None, "rate limit of tasks without one"
        ),
        Setting("task_ignore_result", (bool,), False, "store no results"),
        Setting("task_store_errors_even_if_ignored", (bool,), False, "store failures all the same"),
        Setting("task_publish_retry", (bool,), True, "try again when publishing fails"),
        Setting(
            "task_publish_retry_policy",
            (dict,),
            {"max_retries": 3, "interval_start": 0, "interval_max": 1, "interval_step": 0.2},
            "how often and how fast",
        ),
        Setting(
            "task_queues",
            (list, tuple, dict, type(None)),
            None,
            "queues to consume: names or kombu Queue objects",
        ),
        Setting("task_routes", (dict, list, tuple, str, type(None)), None, "which task goes to which queue"),
        Setting("task_send_sent_event", (bool,), False, "clients send task-sent events"),
        Setting("task_serializer", (str,), "json", "serializer of messages: json, yaml, msgpack"),
        Setting("task_soft_time_limit", _opt_num, None, "seconds after which a task is told to stop"),
        Setting("task_time_limit", _opt_num, None, "seconds after which its process is killed"),
        Setting("task_track_started", (bool,), False, "store STARTED when a run begins"),
        Setting("task_remote_tracebacks", (bool,), False, "show remote tracebacks when results raise"),
        Setting(
            "task_inherit_parent_priority", (bool,), False, "tasks called by a task inherit its priority"
        ),
        Setting(
            "task_allow_error_cb_on_chord_header",
            (bool,),
            False,
            "errbacks of a chord are called for each failed member too",
        ),
        Setting(
            "task_idempotency_expires",
            _seconds,
            86400.0,
            "seconds for which a call with the same idempotency_key is the same task",
        ),
        Setting("task_max_deliveries", (int,), 3, "crash deliveries after which a message is set aside"),
        # worker
        Setting(
            "worker_concurrency",
            (int, str, type(None)),
            None,
            "tasks at once; the number of CPUs when not set",
        ),
        Setting("worker_pool", (str,), "prefork", "where tasks run: prefork, threads, asyncio, gevent, solo"),
        Setting(
            "worker_prefetch_multiplier", (int,), 4, "messages held per slot at most, while tasks are slow"
        ),
        Setting(
            "worker_max_tasks_per_child", (int, type(None)), None, "replace a child after that many tasks"
        ),
        Setting(
            "worker_max_memory_per_child", (int, type(None)), None, "replace a child above that many KiB"
        ),
        Setting("worker_send_task_events", (bool,), False, "send task events from the start (-E)"),
        Setting("worker_enable_remote_control", (bool,), True, "answer inspect and control"),
        Setting("worker_disable_rate_limits", (bool,), False, "ignore rate limits"),
        Setting("worker_hijack_root_logger", (bool,), True, "set up logging"),
        Setting("worker_redirect_stdouts", (bool,), True, "what tasks print goes to the log"),
        Setting("worker_redirect_stdouts_level", (str,), "WARNING", "at this level"),
        Setting(
            "worker_log_format",
            (str,),
            "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s",
            "log line; the word json gives one JSON object a line",
            ("QCTL_LOG_FORMAT",),
        ),
        Setting(
            "worker_task_log_format",
            (str,),
            "[%(asctime)s: %(levelname)s/%(processName)s] %(task_name)s[%(task_id)s]: %(message)s",
            "log line of a task's own logger",
            ("QCTL_LOG_FORMAT",),
        ),
        Setting(
            "worker_log_color", (bool, type(None)), None, "colours in the log; on a terminal when not set"
        ),
        Setting(
            "worker_deduplicate_successful_tasks",
            (bool,),
            True,
            "a redelivered task whose success is stored is not run again; one that still runs is waited for",
        ),
        Setting("task_log_lines", (int,), 200, "lines that a task logs and `qctl task logs` shows; 0: none"),
        Setting("worker_store_failed", (bool,), True, "keep what failed for good, for `qctl failed`"),
        Setting("failed_task_expires", _opt_seconds, 604_800.0, "seconds it is kept; None or 0: for ever"),
        Setting("failed_tasks_max", (int,), 100_000, "how many are kept; the oldest go first"),
        Setting(
            "worker_soft_shutdown_timeout",
            _num,
            0.0,
            "seconds running tasks get before a soft stop turns cold",
        ),
        Setting(
            "worker_lease",
            _seconds,
            30.0,
            "seconds after which a dead worker's tasks are run again",
            ("QCTL_LEASE",),
        ),
        # bus
        Setting("control_exchange", (str,), "celery", "prefix of the control exchanges"),
        Setting(
            "control_keys",
            (dict,),
            {},
            "keys that may sign control requests: id -> {secret, scope}; the secret may be env:NAME or "
            "file:PATH, scope is read, operate or admin",
        ),
        Setting(
            "control_sign_key",
            _opt_str,
            None,
            "what requests are signed with: id:secret, file:PATH, or an id of control_keys",
            ("QCTL_CONTROL_KEY",),
        ),
        Setting(
            "control_unsigned",
            _opt_str,
            None,
            "what unsigned requests may do: allow, read or refuse; when not set, read if there are "
            "control_keys, else allow",
            ("QCTL_CONTROL_UNSIGNED",),
        ),
        Setting("event_exchange", (str,), "celeryev", "exchange of the events"),
    )
}


#: Celery's other settings: accepted so that an existing configuration loads; without effect here
OTHER_PREFIXES = (
    "arangodb_ azureblockblob_ beat_ broker_ cache_ cassandra_ control_ cosmosdbsql_ couchbase_ "
    "database_ dynamodb_ elasticsearch_ event_ events_ gcs_ mongodb_ override_ redis_ result_ s3_ "
    "security_ task_ worker_"
).split()


#: settings of Celery that look like misspellings of ours
_CELERY_ONLY = frozenset(
    "task_acks_on_failure task_acks_on_timeout worker_log_datefmt worker_task_log_datefmt "
    "task_reject_on_worker_lost task_retry_on_worker_lost event_queue_ttl "
    "result_exchange result_persistent worker_pool_restarts worker_pool_putlocks".split()
)
