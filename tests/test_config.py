"""Settings: names, types, the environment, and what may be shown of them."""

from __future__ import annotations

import pytest

from qcore.config import Config, masked
from qcore.errors import ConfigError, UnknownName


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
