"""Every setting: name, type, default, meaning.

In:  nothing.  Out: the rows by name; those of the broker and the result store are in servers.py.
"""

from __future__ import annotations

from qcore.settings.servers import (
    NUMBER,
    OPT_INT,
    OPT_MAPPING,
    OPT_NUMBER,
    OPT_SECONDS,
    OPT_TEXT,
    SECONDS,
    SEQUENCE,
    SERVERS,
    Setting,
)
from qcore.settings.stores import STORES

#: options of programs that a setting may give: worker_logfile, beat_uid, …
_DAEMON = {name: f"--{name}" for name in ("logfile", "pidfile", "uid", "gid", "umask")}

TABLE: dict[str, Setting] = {
    s.name: s
    for s in (
        # general
        Setting(
            "accept_content", SEQUENCE, ("json",), "accepted serializers of messages, by name or content type"
        ),
        Setting(
            "timezone",
            OPT_TEXT,
            None,
            "time zone of the schedule; default: UTC. A naive eta or expires is UTC, as in Celery",
        ),
        Setting("enable_utc", (bool,), True, "false: naive times of schedules are those of the host"),
        Setting(
            "tracing",
            (bool,),
            False,
            "OpenTelemetry's spans of calls and runs (extra otel)",
            ("QCTL_TRACING",),
        ),
        Setting("imports", SEQUENCE, (), "modules that the worker imports at start"),
        Setting("include", SEQUENCE, (), "further modules that the worker imports at start"),
        Setting(
            "db_reuse_max",
            (int, type(None)),
            None,
            "Django: how many tasks share a database connection; default: each gets a new one",
        ),
        *SERVERS,
        *STORES,
        # tasks
        Setting(
            "task_acks_late", (bool,), True, "acknowledge after the run (late); false: before it (early)"
        ),
        Setting("task_acks_on_failure_or_timeout", (bool,), True, "acknowledge failed runs too"),
        Setting(
            "task_acks_on_failure", (bool, type(None)), None, "the same, for runs that raised an exception"
        ),
        Setting(
            "task_acks_on_timeout",
            (bool, type(None)),
            None,
            "the same, for runs that passed their time limit",
        ),
        Setting(
            "task_reject_on_worker_lost",
            (bool, type(None)),
            None,
            "redeliver a late-acknowledged task when its process died; default: true",
        ),
        Setting(
            "task_retry_on_worker_lost",
            (bool,),
            False,
            "retry a task when its process died, up to its max_retries and after its default_retry_delay",
        ),
        Setting("task_always_eager", (bool,), False, "run tasks in the caller, for tests"),
        Setting("task_eager_propagates", (bool,), False, "eager tasks raise their exceptions"),
        Setting("task_store_eager_result", (bool,), False, "store the results of eager tasks"),
        Setting(
            "task_annotations",
            (dict, list, tuple, type(None)),
            None,
            "task options by task name: {'proj.add': {'rate_limit': '10/s'}, '*': {…}}",
        ),
        Setting(
            "task_compression", OPT_TEXT, None, "compression of messages: gzip, bzip2, lzma, brotli, zstd"
        ),
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
            "RabbitMQ: type of other queues that qcore declares, classic or quorum",
        ),
        Setting(
            "task_create_missing_queue_exchange_type",
            OPT_TEXT,
            None,
            "type of the exchange of a queue that task_queues does not name; without it direct",
        ),
        Setting(
            "task_create_missing_queues",
            (bool,),
            True,
            "false: a queue that task_queues does not name is an error",
        ),
        Setting(
            "task_queue_max_priority",
            OPT_INT,
            None,
            "RabbitMQ: priorities of the queues that qcore declares",
        ),
        Setting(
            "task_default_delivery_mode",
            (int, str),
            2,
            "RabbitMQ: 2 or 'persistent', 1 or 'transient' for messages that a restart of the server loses",
        ),
        Setting(
            "task_default_exchange_type",
            (str,),
            "direct",
            "type of task_default_exchange",
        ),
        Setting(
            "task_default_exchange",
            OPT_TEXT,
            None,
            "exchange of queues without one",
        ),
        Setting(
            "task_default_routing_key",
            OPT_TEXT,
            None,
            "routing key of queues without one",
        ),
        Setting("task_default_priority", (int, type(None)), None, "priority of tasks without one, 0 to 9"),
        Setting(
            "task_default_rate_limit", (str, int, float, type(None)), None, "rate limit of tasks without one"
        ),
        Setting("task_ignore_result", (bool,), False, "store no results"),
        Setting(
            "task_store_errors_even_if_ignored", (bool,), False, "store failures even if results are ignored"
        ),
        Setting("task_publish_retry", (bool,), True, "try again when publishing fails"),
        Setting(
            "task_publish_retry_policy",
            (dict,),
            {"max_retries": 3, "interval_start": 0, "interval_max": 1, "interval_step": 0.2},
            "retry policy: number of retries, and intervals in seconds",
        ),
        Setting(
            "task_queues",
            (list, tuple, dict, type(None)),
            None,
            "queues to consume: names or kombu Queue objects",
        ),
        Setting(
            "task_routes",
            (dict, list, tuple, str, type(None), object),
            None,
            "rules that map tasks to queues",
        ),
        Setting("task_send_sent_event", (bool,), False, "clients send task-sent events"),
        Setting("task_protocol", (int,), 2, "version of the task messages that are sent: 2 or 1"),
        Setting(
            "task_serializer", (str,), "json", "serializer of messages: json, yaml, msgpack, pickle, auth"
        ),
        Setting(
            "task_soft_time_limit",
            OPT_NUMBER,
            None,
            "seconds after which SoftTimeLimitExceeded is raised in the task",
        ),
        Setting("task_time_limit", OPT_NUMBER, None, "seconds after which the task's process is killed"),
        Setting("task_track_started", (bool,), False, "store STARTED when a run begins"),
        Setting("task_remote_tracebacks", (bool,), False, "show remote tracebacks when results raise"),
        Setting(
            "task_repr_maxlevels",
            OPT_INT,
            3,
            "lists and dicts within each other that the texts of arguments show; 0: all",
        ),
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
            SECONDS,
            86400.0,
            "seconds during which calls with the same idempotency_key are one task",
        ),
        Setting(
            "task_max_deliveries",
            (int,),
            3,
            "deliveries that ended in a crash before a message is quarantined",
        ),
        # worker
        Setting(
            "worker_concurrency",
            (int, str, type(None)),
            None,
            "number of concurrent tasks; default, 0 and auto: the CPUs that the worker may use",
        ),
        Setting(
            "worker_pool",
            (str,),
            "prefork",
            "worker pool: prefork, threads, asyncio, gevent, eventlet, solo, or a class",
        ),
        Setting(
            "worker_prefetch_multiplier",
            (int,),
            4,
            "prefetch limit: messages held per slot while tasks are slow; 0: 10,000 for the worker",
        ),
        Setting(
            "worker_max_tasks_per_child",
            (int, type(None)),
            None,
            "replace a child process after this many tasks",
        ),
        Setting(
            "worker_max_memory_per_child",
            (int, type(None)),
            None,
            "replace a child process above this many KiB",
        ),
        Setting(
            "worker_cancel_long_running_tasks_on_connection_loss",
            (bool,),
            False,
            "end running tasks that are acknowledged late when the broker's connection is lost",
        ),
        Setting("worker_disable_prefetch", (bool,), False, "hold only messages that a free slot can run"),
        Setting(
            "worker_state_db", OPT_TEXT, None, "where Celery keeps revoked ids; here the broker always does"
        ),
        Setting("worker_direct", (bool,), False, "consume a queue of this worker alone too: <node name>.dq2"),
        Setting("worker_send_task_events", (bool,), False, "send task events from the start (-E)"),
        Setting("worker_enable_remote_control", (bool,), True, "answer inspect and control"),
        Setting("worker_disable_rate_limits", (bool,), False, "ignore rate limits"),
        Setting("worker_hijack_root_logger", (bool,), True, "set up logging"),
        Setting("worker_redirect_stdouts", (bool,), True, "write the output of the worker to the log"),
        Setting("worker_redirect_stdouts_level", (str,), "WARNING", "log level of redirected output"),
        Setting(
            "worker_log_format",
            (str,),
            "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s",
            "log format; `json`: one JSON object per line; module:Class: a formatter",
            ("QCTL_LOG_FORMAT",),
        ),
        Setting(
            "worker_task_log_format",
            (str,),
            "[%(asctime)s: %(levelname)s/%(processName)s] %(task_name)s[%(task_id)s]: %(message)s",
            "log format of task loggers",
            ("QCTL_LOG_FORMAT",),
        ),
        Setting("worker_log_datefmt", OPT_TEXT, None, "format of the time in the log, as time.strftime()"),
        Setting("worker_task_log_datefmt", OPT_TEXT, None, "the same, of task loggers"),
        *(
            Setting(f"{program}_{name}", (str, int, type(None)), None, f"{option} of `qctl {program}`")
            for program in ("worker", "beat", "events")
            for name, option in _DAEMON.items()
        ),
        *(
            Setting(f"{program}_executable", OPT_TEXT, None, f"--executable of `qctl {program}`")
            for program in ("worker", "beat", "events")
        ),
        Setting(
            "worker_pool_start_method",
            (str,),
            "fork",
            "how prefork starts processes: fork, or spawn: fresh interpreters that load the app anew",
        ),
        Setting("worker_pool_restarts", (bool,), False, "allow `pool_restart` to import and reload modules"),
        Setting(
            "worker_log_color", (bool, type(None)), None, "colours in the log; default: only on a terminal"
        ),
        Setting(
            "worker_deduplicate_successful_tasks",
            (bool,),
            True,
            "skip a redelivered task whose success is stored; wait for one that still runs",
        ),
        Setting("task_log_lines", (int,), 200, "log lines kept per task, for `qctl task logs`; 0: none"),
        Setting("worker_store_failed", (bool,), True, "store failed tasks, for `qctl failed`"),
        Setting(
            "failed_task_expires",
            OPT_SECONDS,
            604_800.0,
            "seconds until a failed task expires; None or 0: never",
        ),
        Setting(
            "failed_tasks_max",
            (int,),
            100_000,
            "maximum number of failed tasks; the oldest are deleted first",
        ),
        Setting(
            "worker_soft_shutdown_timeout",
            NUMBER,
            0.0,
            "seconds that a graceful shutdown waits for running tasks; 0: until they end",
        ),
        Setting(
            "worker_lease",
            SECONDS,
            30.0,
            "seconds after which the tasks of a dead worker are redelivered",
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
            OPT_TEXT,
            None,
            "key that signs control requests: id:secret, file:PATH, or an id of control_keys",
            ("QCTL_CONTROL_KEY",),
        ),
        Setting(
            "control_unsigned",
            OPT_TEXT,
            None,
            "permissions of unsigned requests: allow, read or refuse; default: read with "
            "control_keys, else allow",
            ("QCTL_CONTROL_UNSIGNED",),
        ),
        Setting("event_serializer", (str,), "json", "serializer of events"),
        # signed messages
        Setting("security_key", OPT_TEXT, None, "file of the private key that signs messages (PEM, RSA)"),
        Setting("security_key_password", (str, bytes, type(None)), None, "the password of that file"),
        Setting("security_certificate", OPT_TEXT, None, "file of the certificate of that key (PEM)"),
        Setting("security_cert_store", OPT_TEXT, None, "folder or pattern of the certificates to trust"),
        Setting("security_digest", (str,), "sha256", "digest of signatures, where digest=None is given"),
        Setting("event_exchange", (str,), "celeryev", "exchange of the events"),
        Setting("control_queue_ttl", OPT_NUMBER, 300.0, "RabbitMQ: seconds until a control request expires"),
        Setting(
            "control_queue_expires",
            OPT_NUMBER,
            10.0,
            "RabbitMQ: seconds until an unused queue of them is deleted",
        ),
        Setting(
            "control_queue_exclusive",
            (bool,),
            True,
            "RabbitMQ: queues of control requests and replies belong to one connection and end with it",
        ),
        Setting(
            "control_queue_durable",
            (bool,),
            False,
            "RabbitMQ: they survive a restart of the server, and end by control_queue_expires only",
        ),
        Setting(
            "event_queue_ttl",
            OPT_NUMBER,
            5.0,
            "RabbitMQ: seconds until an event expires that is not received",
        ),
        Setting(
            "event_queue_expires",
            OPT_NUMBER,
            60.0,
            "RabbitMQ: seconds until an unused queue of events is deleted",
        ),
        Setting(
            "event_queue_exclusive",
            (bool,),
            True,
            "RabbitMQ: queues of receivers of events belong to one connection and end with it",
        ),
        Setting(
            "event_queue_durable",
            (bool,),
            False,
            "RabbitMQ: they survive a restart of the server, and end by event_queue_expires only",
        ),
        Setting("event_queue_prefix", (str,), "celeryev", "RabbitMQ: beginning of their names"),
        # schedule
        Setting(
            "schedule_store",
            OPT_TEXT,
            None,
            "URL of the store of schedule entries: redis://, sqlite:// or db+…; default: the broker",
            ("QCTL_SCHEDULE_STORE",),
        ),
        Setting(
            "beat_schedule",
            OPT_MAPPING,
            {},
            "periodic tasks: name -> {task, schedule, args, kwargs, options}",
        ),
        Setting(
            "beat_scheduler",
            (str, type, type(None)),
            "celery.beat:PersistentScheduler",
            "scheduler class of the project, module:Class; Celery's default stands for qcore's scheduler",
        ),
        Setting(
            "beat_cron_starting_deadline",
            OPT_NUMBER,
            None,
            "seconds after which a crontab's instant is not published any more; default: no limit",
        ),
        Setting(
            "beat_max_loop_interval",
            NUMBER,
            0,
            "longest seconds between two looks at the entries; 0: the default",
        ),
        Setting(
            "beat_schedule_filename",
            (str,),
            "celerybeat-schedule",
            "file of celery.beat's PersistentScheduler",
        ),
        Setting("beat_enable_remote_control", (bool,), False, "a scheduler answers `inspect ping`"),
        Setting(
            "beat_remote_control_max_tick_age",
            OPT_NUMBER,
            None,
            "seconds without a tick after which it is silent; default: two intervals, at least 60; 0: never",
        ),
        Setting(
            "beat_sync_every", (int,), 0, "tasks after which a scheduler class saves its entries; 0: by time"
        ),
    )
}
