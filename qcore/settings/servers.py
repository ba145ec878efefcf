"""Settings of the broker and of the result store, and what a setting is.

In:  nothing.  Out: rows with name, types, default and meaning, which table.py puts into the whole table.
"""

from __future__ import annotations

from datetime import timedelta
from types import FunctionType, MethodType
from typing import Any, NamedTuple


class Setting(NamedTuple):
    """One setting: its name, the types it takes, its default, its description."""

    name: str
    types: tuple[type, ...]
    default: Any
    doc: str
    env: tuple[str, ...] = ()


#: types of values; OPT_: or None
NUMBER = (int, float)
OPT_NUMBER = (int, float, type(None))
OPT_INT = (int, type(None))
SECONDS = (int, float, timedelta)
OPT_SECONDS = (int, float, timedelta, type(None))
OPT_TEXT = (str, type(None))
OPT_MAPPING = (dict, type(None))
_CALLBACK = (str, FunctionType, MethodType, type(None))
_ENGINE = {"pool_pre_ping": True, "pool_recycle": 3600}
SEQUENCE = (list, tuple, set, frozenset)
OPT_SEQUENCE = (*SEQUENCE, type(None))


SERVERS: tuple[Setting, ...] = (
    # broker
    Setting(
        "broker_url",
        (str, list, tuple, type(None)),
        None,
        "URL of the broker; default: the embedded SQLite broker",
        ("QCTL_BROKER_URL", "CELERY_BROKER_URL"),
    ),
    Setting(
        "broker_read_url",
        (str, list, tuple, type(None)),
        None,
        "URL of the broker for workers, when it differs",
        ("QCTL_BROKER_URL", "CELERY_BROKER_READ_URL"),
    ),
    Setting(
        "broker_write_url",
        (str, list, tuple, type(None)),
        None,
        "URL of the broker for all other processes, when it differs",
        ("QCTL_BROKER_URL", "CELERY_BROKER_WRITE_URL"),
    ),
    Setting("broker_transport", OPT_TEXT, None, "without broker_url: the scheme of the URL"),
    Setting("broker_host", OPT_TEXT, None, "without broker_url: a URL, or the host"),
    Setting("broker_port", OPT_INT, None, "the port, when broker_url has none"),
    Setting("broker_user", OPT_TEXT, None, "the user, when broker_url has none"),
    Setting("broker_password", OPT_TEXT, None, "the password, when broker_url has none"),
    Setting(
        "broker_vhost",
        OPT_TEXT,
        None,
        "the virtual host, or number of database, when broker_url has none",
    ),
    Setting(
        "broker_connection_retry",
        (bool,),
        True,
        "a worker waits for a broker that is away; false: it ends, with exit code 1",
    ),
    Setting(
        "broker_connection_retry_on_startup",
        (bool, type(None)),
        None,
        "overrides broker_connection_retry",
    ),
    Setting(
        "broker_connection_max_retries",
        OPT_INT,
        100,
        "how often a worker tries to connect at its start; None or 0: until it succeeds",
    ),
    Setting("broker_pool_limit", OPT_INT, 10, "connections of kombu in app.pool"),
    Setting("broker_pool_acquire_timeout", OPT_NUMBER, None, "seconds to wait for one of app.pool"),
    Setting(
        "broker_login_method",
        OPT_TEXT,
        None,
        "AMQP: how a connection logs in: PLAIN, AMQPLAIN, EXTERNAL, GSSAPI; default: the first that works",
    ),
    Setting("broker_transport_options", (dict,), {}, "options of the driver (global_keyprefix, lease_s, …)"),
    Setting(
        "broker_failover_strategy",
        (str,),
        "round-robin",
        "order in which the servers of a broker_url are tried: round-robin or shuffle",
    ),
    Setting(
        "broker_use_ssl",
        (dict, bool, type(None)),
        None,
        "TLS to the broker: true, or a dict (ssl_ca_certs, ssl_certfile, ssl_keyfile, ssl_cert_reqs)",
    ),
    Setting("broker_connection_timeout", NUMBER, 4.0, "seconds to wait for a connection"),
    Setting(
        "broker_heartbeat",
        OPT_NUMBER,
        120.0,
        "AMQP: seconds of silence after which a connection is lost, unless the server has less; 0: none",
    ),
    Setting("broker_heartbeat_checkrate", NUMBER, 3.0, "heartbeats, and checks for them, in that time"),
    Setting(
        "broker_native_delayed_delivery_queue_type",
        (str,),
        "quorum",
        "queue type of RabbitMQ's delay topology: quorum or classic; queues that exist are used as they are",
    ),
    # results
    Setting(
        "result_backend",
        OPT_TEXT,
        None,
        "URL of the result store; default: the broker; 'disabled://' stores no results",
        ("QCTL_RESULT_BACKEND", "CELERY_RESULT_BACKEND"),
    ),
    Setting("result_backend_transport_options", (dict,), {}, "options of the result store"),
    Setting(
        "redis_backend_use_ssl",
        (dict, bool, type(None)),
        None,
        "TLS to a result store in Redis, as broker_use_ssl",
    ),
    Setting("result_expires", OPT_SECONDS, 86400.0, "seconds until a result expires; None or 0: never"),
    Setting(
        "result_failure_expires",
        OPT_SECONDS,
        None,
        "seconds until the result of a failed task expires; None: as result_expires, 0: never",
    ),
    Setting(
        "result_chord_expires",
        OPT_SECONDS,
        None,
        "seconds until the counter of a chord expires; None: as result_expires",
    ),
    Setting(
        "override_backends",
        OPT_MAPPING,
        None,
        "backend classes by the scheme of result_backend: {'mine': 'proj.backends:Mine'}",
    ),
    Setting(
        "result_accept_content",
        OPT_SEQUENCE,
        None,
        "accepted serializers of results; None: those of accept_content",
    ),
    Setting("result_serializer", (str,), "json", "serializer of stored results: json, yaml, msgpack, pickle"),
    Setting(
        "result_compression",
        OPT_TEXT,
        None,
        "compression of stored results: gzip, bzip2, lzma, brotli, zstd",
    ),
    Setting(
        "result_persistent",
        (bool, type(None)),
        None,
        "results of rpc:// are persistent messages; their queue still ends with its owner",
    ),
    Setting("result_backend_always_retry", (bool,), False, "try again after an error that may pass"),
    Setting("result_backend_max_retries", NUMBER, float("inf"), "how often"),
    Setting("result_backend_base_sleep_between_retries_ms", NUMBER, 10, "milliseconds before the first time"),
    Setting("result_backend_max_sleep_between_retries_ms", NUMBER, 10000, "longest milliseconds between two"),
    Setting(
        "result_chord_join_timeout",
        NUMBER,
        3.0,
        "seconds to wait for the members' results once a chord is complete",
    ),
    Setting(
        "result_chord_retry_interval",
        NUMBER,
        1.0,
        "seconds until celery.chord_unlock looks again whether a chord is complete",
    ),
    Setting("result_backend_thread_safe", (bool,), False, "threads share app.backend; else each has its own"),
    Setting("redis_host", OPT_TEXT, None, "result_backend 'redis': the host, when the URL has none"),
    Setting("redis_port", OPT_INT, None, "result_backend 'redis': the port, when the URL has none"),
    Setting(
        "redis_db",
        (int, str, type(None)),
        None,
        "result_backend 'redis': the database, when the URL has none",
    ),
    Setting("redis_username", OPT_TEXT, None, "the user, when the URL of result_backend has none"),
    Setting("redis_password", OPT_TEXT, None, "the password, when the URL of result_backend has none"),
    Setting(
        "redis_backend_credential_provider",
        (str, type(None), object),
        None,
        "redis.CredentialProvider, or its place module:Class: tells user and password of that store",
    ),
    Setting("redis_client_name", OPT_TEXT, None, "name of the connections to a result store in Redis"),
    Setting(
        "redis_backend_health_check_interval",
        OPT_NUMBER,
        None,
        "seconds without a request after which such a connection is checked by a PING; None: it is not",
    ),
    Setting(
        "redis_socket_connect_timeout", OPT_NUMBER, None, "seconds to wait for a connection to that store"
    ),
    Setting("redis_socket_timeout", OPT_NUMBER, 120.0, "seconds to wait for an answer of that store"),
    Setting(
        "result_cache_max",
        OPT_INT,
        -1,
        "how many successful results a process keeps that it has read; 0 or None: all; -1: none",
    ),
    Setting("result_extended", (bool,), False, "store name, args, kwargs, worker, queue with the result"),
    Setting("cache_backend", OPT_TEXT, None, "URL of the cache when result_backend is 'cache'"),
    Setting("cache_backend_options", (dict,), {}, "options of the client of memcached"),
    Setting("database_url", OPT_TEXT, None, "URL of the database when result_backend is 'database'"),
    Setting("database_engine_options", (dict,), _ENGINE, "options of SQLAlchemy's engine for results"),
    Setting(
        "database_engine_callback",
        _CALLBACK,
        None,
        "called with the engine for results, a function or its path, after it was made",
    ),
    Setting(
        "database_short_lived_sessions", (bool,), False, "a connection to the database for each operation"
    ),
    Setting(
        "database_create_tables_at_setup",
        (bool,),
        True,
        "make the tables of results when a process opens the database; false: at their first use",
    ),
    Setting("database_table_names", OPT_MAPPING, None, "names of the tables of results: task, group"),
    Setting("database_table_schemas", OPT_MAPPING, None, "schemas of the tables of results: task, group"),
)
