"""The fields of a crontab that are not valid, and Celery's parser of one field."""

from __future__ import annotations

from typing import Any

import pytest

from qcore.schedules import classes
from tests.qcore.schedules.test_classes_as_celery import THEIRS, Ours

BAD_FIELDS: list[dict[str, Any]] = [
    {"minute": 60},
    {"minute": -1},
    {"minute": "61"},
    {"minute": "-5"},
    {"minute": "*/"},
    {"minute": "1-/3"},
    {"minute": "1,,2"},
    {"minute": ""},
    {"minute": "5/10"},
    {"minute": "*/0"},
    {"hour": [24]},
    {"hour": "x"},
    {"day_of_month": 0},
    {"day_of_month": "31", "month_of_year": "feb,apr"},
    {"month_of_year": "13"},
    {"day_of_week": 7},
    {"day_of_week": "7"},
    {"day_of_week": "fry"},
    {"minute": 3.5},
    {"minute": None},
    {"minute": object()},
]


@pytest.mark.parametrize("arguments", BAD_FIELDS)
def test_what_is_an_error_in_celery_is_one_that_the_same_clause_catches(arguments: dict[str, Any]) -> None:
    with pytest.raises(Exception) as theirs:
        THEIRS.crontab(**arguments)
    kind = ValueError if isinstance(theirs.value, THEIRS.ParseException) else type(theirs.value)

    with pytest.raises(kind) as here:
        classes.crontab(**arguments)

    assert "\n" not in str(here.value)


STRICTER: list[dict[str, Any]] = [
    {"minute": "jan"},
    {"hour": "mon"},
    {"day_of_week": "mondax"},
    {"minute": "1-5 x"},
    {"minute": "*/15 30"},
    {"minute": []},
]


@pytest.mark.parametrize("arguments", STRICTER)
def test_what_celery_takes_for_something_else_is_an_error(arguments: dict[str, Any]) -> None:
    THEIRS.crontab(**arguments)

    with pytest.raises(ValueError):
        classes.crontab(**arguments)


@pytest.mark.parametrize("size", [(60,), (24,), (7,), (31, 1), (12, 1), (10, 5)])
@pytest.mark.parametrize("text", ["*", "*/4", "5-9", "7", "9-6", "10-6/2", "5,6", "6-6/3"])
def test_the_parser_of_a_field_gives_the_same(size: tuple[int, ...], text: str) -> None:
    found = []
    for module in (THEIRS, Ours):
        try:
            found.append(module.crontab_parser(*size).parse(text))
        except ValueError:
            found.append("error")

    assert found[0] == found[1]
