"""Members of app.conf: the same lines on Celery's and on ours."""

from __future__ import annotations

import copy
from typing import Any

import celery
import celery.app.defaults
import pytest

from qcore.celery.app import Celery

each = pytest.mark.parametrize("make", [celery.Celery, Celery])


def settings(make: Any, **options: Any) -> Any:
    return make("x", broker="memory://", set_as_current=False, **options).conf


@each
def test_a_copy_has_changes_of_its_own(make: Any) -> None:
    conf = settings(make).finalize()
    conf.add_defaults({"task_default_priority": 3})

    for made in (conf.copy(), copy.copy(conf)):
        made.task_always_eager = True
        assert (made.broker_url, made.task_default_priority) == ("memory://", 3)
    assert conf.task_always_eager is False


@each
def test_settings_are_taken_over(make: Any) -> None:
    conf, other = settings(make), settings(make)
    other.update(task_always_eager=True)
    conf.finalize().swap_with(other.finalize())
    other.worker_concurrency = 7

    assert (conf.task_always_eager, conf.worker_concurrency) == (True, 7)


@each
def test_changes_are_forgotten(make: Any) -> None:
    conf = settings(make).finalize()
    conf.task_always_eager = True
    conf.add_defaults({"worker_concurrency": 7})
    conf.clear()

    assert (conf.task_always_eager, conf.worker_concurrency, conf.broker_url) == (False, 7, None)


@each
def test_updates_are_announced(make: Any) -> None:
    conf, seen = settings(make).finalize(), []
    conf.bind_to(lambda *args, **kwargs: seen.append((args, kwargs)))
    conf.update({"task_always_eager": True}, worker_concurrency=3)
    conf.update(worker_concurrency=4)
    conf.worker_concurrency = 5

    assert seen == [
        (({"task_always_eager": True},), {"worker_concurrency": 3}),
        ((), {"worker_concurrency": 4}),
    ]


@each
def test_items_one_by_one(make: Any) -> None:
    conf = settings(make).finalize()
    conf.worker_concurrency = 3

    assert list(conf.iterkeys()) == list(conf)
    assert list(conf.itervalues()) == [conf[name] for name in conf]
    assert ("worker_concurrency", 3) in list(conf.iteritems())
    with pytest.raises(KeyError):
        conf.popitem()
    made = conf.fromkeys(["task_always_eager", "task_ignore_result"], True)
    assert made["task_always_eager"] is made.task_ignore_result is True


@each
def test_the_namespace_of_the_settings(make: Any) -> None:
    assert settings(make).finalize().prefix is None
    assert settings(make, namespace="CELERY").finalize().prefix == "CELERY_"
    app = make("x", set_as_current=False)
    app.config_from_object({"MINE_task_always_eager": True}, namespace="MINE")
    assert app.conf.finalize().prefix == "MINE_"


@each
def test_urls_and_names_follow_from_others(make: Any) -> None:
    conf = settings(make).finalize()
    conf.task_default_queue = "q"
    first = [
        conf.broker_read_url,
        conf.broker_write_url,
        conf.task_default_exchange,
        conf.task_default_routing_key,
    ]
    conf.update(broker_read_url="memory://r", broker_write_url="memory://w")
    conf.update(task_default_exchange="e", task_default_routing_key="k")
    then = [
        conf.broker_read_url,
        conf.broker_write_url,
        conf.task_default_exchange,
        conf.task_default_routing_key,
    ]

    assert first == ["memory://", "memory://", "q", "q"]
    assert then == ["memory://r", "memory://w", "e", "k"]


@each
def test_old_names_are_warned_of(make: Any) -> None:
    app = make("x", set_as_current=False)
    app.config_from_object({"CELERY_ALWAYS_EAGER": True, "CELERY_RESULT_SERIALIZER": "json"})

    with pytest.warns(DeprecationWarning, match="CELERY_ALWAYS_EAGER"):
        assert app.conf.maybe_warn_deprecated_settings() is True
    assert settings(make).finalize().maybe_warn_deprecated_settings() is False


def test_options_are_found_by_name() -> None:
    theirs, ours = settings(celery.Celery), settings(Celery)
    parts = {name.partition("_")[2] or name for name in celery.app.defaults.DEFAULTS}

    for name in sorted(parts | set(celery.app.defaults.DEFAULTS) | {"worker", "Task"}):
        try:
            wanted = theirs.find_option(name)[:2]
        except KeyError:
            with pytest.raises(KeyError):
                ours.find_option(name)
        else:
            assert ours.find_option(name)[:2] == wanted, name
    assert ours.find_option("url", "cassandra")[:2] == theirs.find_option("url", "cassandra")[:2]
    assert repr(ours.find_option("always_eager").type) == repr(theirs.find_option("always_eager").type)
    assert ours.find_option("beat").type["sync_every"].default == 0
