"""Fixtures live in the module that owns the thing; this file only names them."""

from __future__ import annotations

import os

import pytest

pytest_plugins = [
    "tests.redis_server",
    "tests.rabbit_server",
    "tests.certificates",
    "tests.sentinels",
    "tests.processes",
]


def missing_service(reason: str) -> None:
    """Skip here; fail in CI, where every service must be there."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason} (CI is set, so a missing service is a failure)")
    pytest.skip(reason)
