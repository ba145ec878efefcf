"""Settings: names, types, the environment, and what may be shown of them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from qcore import App
from qcore.errors import ConfigError, UnknownName
from qcore.settings.config import Config, masked


def test_defaults_have_the_declared_types() -> None:
    conf = Config(environ={})

    assert conf.task_acks_late is True
    assert conf.task_default_queue == "celery"
    assert conf.changed() == {}


def test_a_misspelt_setting_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'task_acks_late'"):
        Config({"task_ack_late": True})


def test_a_wrong_type_is_refused_with_the_name() -> None:
    with pytest.raises(ConfigError, match="task_time_limit takes int or float or None, not list"):
        Config({"task_time_limit": [1]})


@pytest.mark.parametrize("value", [-1, -0.5, float("nan"), float("inf"), timedelta(seconds=-1)])
def test_a_length_of_time_is_from_0_on(value: object) -> None:
    with pytest.raises(ConfigError, match="result_expires takes a number from 0 on"):
        Config({"result_expires": value}, environ={})
    with pytest.raises(ConfigError, match="worker_lease takes a number from 0 on"):
        Config(environ={"QCTL_LEASE": "-1"})


@pytest.mark.parametrize(
    "zone", ["europe/berlin", "Europe", "../x", "", "Mars/Olympus", "x\x00", "/etc/passwd"]
)
def test_a_zone_that_is_none_is_refused(zone: str) -> None:
    with pytest.raises(ConfigError, match="timezone names no zone"):
        Config({"timezone": zone or " "}, environ={})


def test_zones_that_there_are_are_taken() -> None:
    for zone in ("UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", None):
        assert Config({"timezone": zone}, environ={}).timezone == zone


def test_two_names_of_one_setting_may_say_the_same() -> None:
    both = {"CELERY_TASK_RESULT_EXPIRES": 5, "result_expires": 5}

    assert Config(both, environ={}).result_expires == 5
    with pytest.raises(
        ConfigError, match="'CELERY_TASK_RESULT_EXPIRES' and 'result_expires' are the same setting"
    ):
        Config(both | {"result_expires": 6}, environ={})
    with pytest.raises(ConfigError, match="are the same setting"):
        App("x", set_as_current=False).config_from_object({**both, "RESULT_EXPIRES": 7})
    # What one source says, a later one may say otherwise.
    conf = Config({"CELERY_TASK_RESULT_EXPIRES": 5}, environ={})
    conf.update({"result_expires": 6})
    assert conf.result_expires == 6


def test_celerys_other_settings_and_old_names_are_accepted() -> None:
    conf = Config({"worker_pool_restarts": True, "CELERY_ALWAYS_EAGER": True}, environ={})

    assert conf.worker_pool_restarts is True
    assert conf.task_always_eager is True


def test_the_environment_wins_and_is_converted() -> None:
    conf = Config({"broker_url": "redis://a"}, environ={"QCTL_BROKER_URL": "redis://b", "QCTL_LEASE": "2.5"})

    assert conf.broker_url == "redis://b"
    assert conf.worker_lease == 2.5


def test_secrets_are_hidden() -> None:
    shown = masked({"broker_url": "redis://:hunter2@h/0", "x_password": "hunter2", "nested": {"token": "t"}})

    assert "hunter2" not in str(shown)
    assert shown["nested"] == {"token": "********"}
    assert shown["broker_url"] == "redis://:********@h/0"


def test_a_setting_that_was_read_is_read_again_after_every_kind_of_change() -> None:
    conf = Config({}, environ={})

    def queue() -> object:
        return conf.task_default_queue

    assert queue() == "celery"
    conf.add_defaults({"task_default_queue": "a"})
    assert queue() == "a"
    conf.task_default_queue = "b"
    assert queue() == "b"
    conf.pop("task_default_queue")
    assert queue() == "a"
    conf.add_source(lambda: {"task_default_queue": "c"})
    assert queue() == "c"
    conf.override("task_default_queue", "d")
    assert queue() == "d" == conf["task_default_queue"]
    assert conf.CELERY_DEFAULT_QUEUE == "d"
