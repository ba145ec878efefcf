"""What a worker checks of its serializers before it starts."""

from __future__ import annotations

from typing import Any

import pytest

from qcore.errors import ConfigError
from qcore.settings.config import Config
from qcore.worker.process.options import check_serializers


def conf(**settings: Any) -> Config:
    return Config(settings, environ={})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"accept_content": ["json", "yml"]},
            "accept_content names 'yml', which is no serializer; did you mean",
        ),
        ({"event_serializer": "jsn"}, "event_serializer: no serializer named 'jsn'"),
        ({"task_serializer": "auth"}, r"task_serializer: .*auth needs app\.setup_security"),
        ({"result_serializer": "x"}, "result_serializer: no serializer named 'x'"),
    ],
)
def test_a_name_that_no_serializer_has_is_an_error(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_serializers(conf(**settings), 1000, {})


@pytest.mark.parametrize("name", ["pickle", "application/x-python-serialize"])
def test_a_worker_of_root_accepts_pickle_only_when_it_is_forced_to(name: str) -> None:
    pickled = conf(accept_content=["json", name])

    with pytest.raises(ConfigError, match="C_FORCE_ROOT=1"):
        check_serializers(pickled, 0, {})

    check_serializers(pickled, 1000, {})
    check_serializers(pickled, 0, {"C_FORCE_ROOT": "1"})
    check_serializers(conf(accept_content=["json", "yaml", "application/x-anything"]), 0, {})
