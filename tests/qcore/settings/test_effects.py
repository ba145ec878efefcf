"""Every setting of Celery works here, or says that it does not."""

from __future__ import annotations

import logging
import re
from functools import cache
from pathlib import Path

import celery.backends
import pytest

import qcore
import qctl
from qcore.results.celery_stores import MODULES
from qcore.settings import effects
from qcore.settings.celery_defaults import DEFAULTS
from qcore.settings.config import Config
from qcore.settings.effects import ANYWAY, DIFFERENT, NO_EFFECT, OWN
from qcore.settings.table import TABLE

#: the settings of Celery 5.7.0
CELERYS = (
    "accept_content arangodb_backend_settings azureblockblob_base_path azureblockblob_connection_timeout "
    "azureblockblob_container_name azureblockblob_read_timeout azureblockblob_retry_increment_base "
    "azureblockblob_retry_initial_backoff_sec azureblockblob_retry_max_attempts "
    "beat_cron_starting_deadline beat_enable_remote_control beat_executable beat_gid beat_logfile "
    "beat_max_loop_interval beat_pidfile beat_remote_control_max_tick_age beat_schedule "
    "beat_schedule_filename beat_scheduler beat_sync_every beat_uid beat_umask broker_channel_error_retry "
    "broker_connection_max_retries broker_connection_retry broker_connection_retry_on_startup "
    "broker_connection_timeout broker_failover_strategy broker_heartbeat broker_heartbeat_checkrate "
    "broker_host broker_login_method broker_native_delayed_delivery_queue_type broker_password "
    "broker_pool_acquire_timeout broker_pool_limit broker_port broker_read_url broker_transport "
    "broker_transport_options broker_url broker_use_ssl broker_user broker_vhost broker_write_url "
    "cache_backend cache_backend_options cassandra_auth_kwargs cassandra_auth_provider "
    "cassandra_bundle_path cassandra_entry_ttl cassandra_keyspace cassandra_options cassandra_port "
    "cassandra_read_consistency cassandra_servers cassandra_table cassandra_write_consistency "
    "control_exchange control_queue_durable control_queue_exclusive control_queue_expires "
    "control_queue_ttl cosmosdbsql_collection_name cosmosdbsql_consistency_level "
    "cosmosdbsql_database_name cosmosdbsql_max_retry_attempts cosmosdbsql_max_retry_wait_time "
    "couchbase_backend_settings database_create_tables_at_setup database_engine_callback "
    "database_engine_options database_short_lived_sessions database_table_names database_table_schemas "
    "database_url dynamodb_endpoint_url elasticsearch_max_retries elasticsearch_retry_on_timeout "
    "elasticsearch_save_meta_as_text elasticsearch_timeout enable_utc event_exchange event_queue_durable "
    "event_queue_exclusive event_queue_expires event_queue_prefix event_queue_ttl event_serializer "
    "events_executable events_gid events_logfile events_pidfile events_uid events_umask gcs_base_path "
    "gcs_bucket gcs_project gcs_threadpool_maxsize gcs_ttl imports include mongodb_backend_settings "
    "override_backends redis_backend_credential_provider redis_backend_health_check_interval "
    "redis_backend_use_ssl redis_client_name redis_db redis_host redis_max_connections redis_password "
    "redis_port redis_retry_on_timeout redis_socket_connect_timeout redis_socket_keepalive "
    "redis_socket_timeout redis_username result_accept_content result_backend result_backend_always_retry "
    "result_backend_base_sleep_between_retries_ms result_backend_max_retries "
    "result_backend_max_sleep_between_retries_ms result_backend_thread_safe "
    "result_backend_transport_options result_cache_max result_chord_expires result_chord_join_timeout "
    "result_chord_retry_interval result_compression result_exchange result_exchange_type result_expires "
    "result_extended result_failure_expires result_persistent result_serializer s3_access_key_id "
    "s3_base_path s3_bucket s3_endpoint_url s3_region s3_secret_access_key security_cert_store "
    "security_certificate security_digest security_key security_key_password task_acks_late "
    "task_acks_on_failure task_acks_on_failure_or_timeout task_acks_on_timeout "
    "task_allow_error_cb_on_chord_header task_always_eager task_annotations task_compression "
    "task_create_missing_queue_exchange_type task_create_missing_queue_type task_create_missing_queues "
    "task_default_delivery_mode task_default_exchange task_default_exchange_type task_default_priority "
    "task_default_queue task_default_queue_type task_default_rate_limit task_default_routing_key "
    "task_eager_propagates task_ignore_result task_inherit_parent_priority task_protocol "
    "task_publish_retry task_publish_retry_policy task_queue_max_priority task_queues "
    "task_reject_on_worker_lost task_remote_tracebacks task_repr_maxlevels task_retry_on_worker_lost "
    "task_routes task_send_sent_event task_serializer task_soft_time_limit task_store_eager_result "
    "task_store_errors_even_if_ignored task_time_limit task_track_started timezone worker_agent "
    "worker_autoscaler worker_cancel_long_running_tasks_on_connection_loss worker_concurrency "
    "worker_consumer worker_deduplicate_successful_tasks worker_detect_quorum_queues worker_direct "
    "worker_disable_prefetch worker_disable_rate_limits worker_enable_prefetch_count_reduction "
    "worker_enable_remote_control worker_enable_soft_shutdown_on_idle worker_eta_task_limit "
    "worker_executable worker_gid worker_hijack_root_logger worker_log_color worker_log_datefmt "
    "worker_log_format worker_logfile worker_lost_wait worker_max_memory_per_child "
    "worker_max_tasks_per_child worker_pidfile worker_pool worker_pool_putlocks worker_pool_restarts "
    "worker_pool_start_method worker_prefetch_multiplier worker_proc_alive_timeout "
    "worker_redirect_stdouts worker_redirect_stdouts_level worker_send_task_events "
    "worker_soft_shutdown_timeout worker_state_db worker_task_log_datefmt worker_task_log_format "
    "worker_timer worker_timer_precision worker_uid worker_umask"
).split()
#: settings whose readers put their names together: a program and one of its options
OF_PROGRAMS = re.compile(r"(worker|beat|events)_(logfile|pidfile|uid|gid|umask)")


@cache
def source() -> str:
    """The code of both packages without the declarations of settings, and that of Celery's classes."""
    roots = (Path(str(package.__file__)).parent for package in (qcore, qctl))
    files = (path for root in roots for path in root.rglob("*.py"))
    ours = "\n".join(path.read_text() for path in files if path.parent.name != "settings")
    celerys = Path(celery.backends.__file__).parent
    theirs = "\n".join((celerys / f"{m.rpartition('.')[2]}.py").read_text() for m in sorted(MODULES))
    return ours + theirs.replace("'", '"')


def is_read(name: str) -> bool:
    if OF_PROGRAMS.fullmatch(name):
        name = "{program}_{option}"
    return f'"{name}"' in source() or bool(re.search(rf"\.{re.escape(name)}\b", source()))


def test_the_list_is_that_of_celery() -> None:
    assert len(CELERYS) == 232
    assert set(CELERYS) | OWN == TABLE.keys() | DEFAULTS.keys()
    assert not OWN & set(CELERYS)


@pytest.mark.parametrize("name", CELERYS)
def test_a_setting_is_read_or_has_its_sentence(name: str) -> None:
    if name in NO_EFFECT:
        assert name in DEFAULTS and name not in TABLE
        assert name not in DIFFERENT
    else:
        assert name in TABLE
        assert is_read(name) != (name in ANYWAY)


def test_a_setting_that_nobody_reads_is_found() -> None:
    assert not is_read("worker_timer")
    assert not is_read("worker_agent")


def test_defaults_that_are_not_celerys_are_named() -> None:
    """Those of this list; all others are Celery's."""
    own = {
        "task_acks_late",
        "worker_deduplicate_successful_tasks",
    }

    assert {name for name, words in DIFFERENT.items() if "Celery's is" in words} == own | {
        "task_reject_on_worker_lost"  # None in both, which means true here
    }


def test_a_sentence_follows_a_colon() -> None:
    for name, words in (NO_EFFECT | DIFFERENT).items():
        assert name in CELERYS
        assert words[-1] != "."
        assert not words[0].isupper()


def test_only_what_is_set_otherwise_than_by_default_is_named() -> None:
    conf = Config({"worker_timer": "x", "worker_pool_putlocks": True, "CELERY_WORKER_AGENT": "k"}, environ={})

    assert effects.without_effect(conf.without_defaults()) == ["worker_agent", "worker_timer"]
    assert effects.without_effect(Config({"task_acks_late": False}, environ={}).without_defaults()) == []


def test_a_few_are_said_one_by_one_and_many_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "qcore")
    log = logging.getLogger("qcore.worker")
    effects.warn({"worker_timer": "x", "worker_agent": "a"}, log)

    assert caplog.messages == [
        "the setting worker_agent has no effect: the worker is no actor of the package cell",
        "the setting worker_timer has no effect: the worker waits for the next event or due time itself",
    ]
    caplog.clear()
    effects.warn({name: "x" for name in CELERYS if name.startswith("cassandra_")}, log)

    assert len(caplog.messages) == 1
    assert "cassandra_auth_kwargs, cassandra_auth_provider" in caplog.messages[0]
    assert "qctl config explain" in caplog.messages[0]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("worker_timer", "no effect: the worker waits"),
        ("task_acks_late", "different: the default is true"),
        ("task_track_started", "as in Celery"),
        ("worker_lease", "qcore's own"),
    ],
)
def test_how_a_setting_compares_with_celerys(name: str, words: str) -> None:
    assert effects.remark(name).startswith(words)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"beat_schedule_filename": "x"}, True),
        ({"beat_schedule_filename": "x", "beat_scheduler": "celery.beat.PersistentScheduler"}, True),
        ({"beat_schedule_filename": "x", "beat_scheduler": "proj.beat:Mine"}, False),
        ({"task_queue_max_priority": 9, "broker_url": "redis://h"}, True),
        ({"task_queue_max_priority": 9, "broker_url": "amqp://h"}, False),
        ({"task_queue_max_priority": 9, "broker_url": ["amqps://h", "amqps://i"]}, False),
        ({"task_queue_max_priority": 9, "broker_host": "h"}, False),
        ({"task_queue_max_priority": 9, "broker_host": "h", "broker_transport": "redis"}, True),
        ({"task_queue_max_priority": 9}, True),
        ({"redis_client_name": "x", "result_backend": "rediss://h"}, False),
        ({"redis_client_name": "x", "result_backend": "rpc://"}, True),
        ({"redis_client_name": "x"}, True),
        ({"result_compression": "gzip", "result_backend": "db+sqlite:///x"}, True),
        ({"result_compression": "gzip", "result_backend": "file:///x"}, False),
        ({"result_compression": "gzip"}, False),
        ({"result_compression": "gzip", "result_backend": "dynamodb://region/table"}, False),
        ({"result_compression": "gzip", "result_backend": "s3://"}, True),
        ({"s3_bucket": "b", "result_backend": "s3"}, False),
        ({"s3_bucket": "b", "result_backend": "redis://h"}, True),
        ({"gcs_bucket": "b", "result_backend": "gs://b/path"}, False),
        ({"elasticsearch_timeout": 3, "result_backend": "elasticsearch+https://h"}, False),
        ({"mongodb_backend_settings": {"database": "x"}}, True),
        ({"result_backend_always_retry": True, "result_backend": "elasticsearch://h"}, False),
        ({"result_backend_always_retry": True, "result_backend": "redis://h"}, True),
    ],
)
def test_what_has_an_effect_only_with_others(given: dict[str, object], named: bool) -> None:
    (name, *_) = given

    assert effects.without_effect(given) == ([name] if named else [])
    assert "has no effect with these settings: " in effects.sentence(name)
