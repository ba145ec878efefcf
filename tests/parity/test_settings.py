"""Each setting and environment variable of Celery: known, with its default, or with a word about it."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import django
import django.core.checks
import pytest
from celery.app.defaults import NAMESPACES, flatten

from qcore.contrib.django import DjangoWorkerFixup
from qcore.settings import effects
from qcore.settings.config import Config
from qctl.inventory_page import DIFFERENT, SAME, Row, areas
from tests.support.processes import ROOT

CELERYS: dict[str, Any] = {name: option.default for name, option in flatten(NAMESPACES)}
ROWS = {row.name: row for area in areas() if area.area == "settings" for row in area.rows}
COMPARED = [name for name in ROWS if name in CELERYS and ROWS[name].status != DIFFERENT]
#: a value that means what Celery's default means
ALIKE = {"broker_failover_strategy": "round-robin", "broker_use_ssl": None}


def variables() -> list[Row]:
    return [row for area in areas() if area.area == "settings.environment_variables" for row in area.rows]


def test_every_setting_of_celery_has_a_row() -> None:
    assert len(CELERYS) > 200
    assert sorted(CELERYS.keys() - ROWS.keys()) == []


@pytest.mark.parametrize("name", COMPARED)
def test_a_setting_has_celerys_default(name: str) -> None:
    default = CELERYS[name]
    expected = default.total_seconds() if isinstance(default, timedelta) else ALIKE.get(name, default)

    assert effects.usual(name) == expected


@pytest.mark.parametrize("name", [row.name for row in variables() if row.status == SAME])
def test_an_environment_variable_is_read(name: str) -> None:
    files = [path for package in ("qcore", "qctl") for path in (ROOT / package).rglob("*.py")]

    assert [path for path in files if f'"{name}"' in path.read_text()]


@pytest.mark.parametrize("name", ["BROKER_URL", "BROKER_READ_URL", "BROKER_WRITE_URL", "RESULT_BACKEND"])
def test_a_url_of_the_environment_precedes_the_app(name: str) -> None:
    conf = Config({name.lower(): "redis://app/1"}, environ={f"CELERY_{name}": "redis://environment/2"})

    assert conf[name.lower()] == "redis://environment/2"


@pytest.mark.parametrize("skip", ["", "true"])
def test_checks_of_django_are_skipped_if_asked_for(skip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(django, "setup", lambda: done.append("setup"))
    monkeypatch.setattr(django.core.checks, "run_checks", lambda: done.append("checks"))
    monkeypatch.setitem(os.environ, "CELERY_SKIP_CHECKS", skip)

    DjangoWorkerFixup.validate_models(object.__new__(DjangoWorkerFixup))

    assert done == (["setup"] if skip else ["setup", "checks"])


def transport_options() -> list[str]:
    """The options of transports that are the same, one name each."""
    chosen = [area for area in areas() if area.area.endswith("transport_options_redis")]
    names = [row.name for area in chosen for row in area.rows if row.status == SAME]
    return sorted({name for names_of_row in names for name in names_of_row.split(" / ")} - {"sentinel_only"})


@pytest.mark.parametrize("name", transport_options())
def test_a_transport_option_is_read(name: str) -> None:
    places = [
        *(ROOT / "qcore" / "brokers" / "redis").rglob("*.py"),
        ROOT / "qcore" / "app" / "connections.py",
    ]
    asked = (f'.get("{name}"', f'"{name}"', f".{name}", f" {name} ")

    assert [path for path in places if any(word in path.read_text() for word in asked)]
