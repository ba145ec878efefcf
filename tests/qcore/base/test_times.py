"""Lengths of time as people type them, and as the tool itself prints them."""

from __future__ import annotations

import pytest

from qcore.base.times import span_s
from qctl.output.text import age


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1.5", 1.5),
        (" 2 s ", 2),
        ("250ms", 0.25),
        ("10m", 600),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("3m20s", 200),
        ("5h02m", 18120),
        ("3d04h", 273600),
        ("1d2h3m4s5ms", 93784.005),
    ],
)
def test_a_length_of_time_is_read(text: str, seconds: float) -> None:
    assert span_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", " ", "1h30", "30m1h", "1h1h", "1x", "h", "-1s", "1h-30m", "1e3", "nan"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a length of time"):
        span_s(text)


@pytest.mark.parametrize("seconds", [0, 0.4, 12, 60, 200, 3599, 5400, 86399, 100_000, 900_000])
def test_what_the_tool_prints_can_be_typed(seconds: float) -> None:
    assert age(span_s(age(seconds))) == age(seconds)
