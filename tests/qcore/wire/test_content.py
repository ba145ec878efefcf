"""Bodies as JSON, and back."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from qcore.wire import content


@pytest.mark.parametrize(
    "value", [1, "é", 1.5, float("nan"), float("-inf"), 2**70, datetime(2026, 1, 2), [{"a": {"b": None}}]]
)
def test_a_list_that_was_read_is_written_as_it_was(value: Any) -> None:
    raw = content.to_json([[{"task": "t", "args": [value]}]])
    read = content.as_read(content.from_json(raw)[0], raw)

    assert content.to_json([read]) == raw
