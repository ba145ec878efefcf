"""The app of `qctl bench`: one task that does nothing."""

# mypy: disable-error-code="untyped-decorator"
# App.task takes options of many kinds, so its result has no type of its own.

from __future__ import annotations

import json
import os
from typing import Any

from qcore.app.app import App

QUEUE = "qctl.bench"
#: broker settings of the measured fleet, as JSON in the environment
SETTINGS = "QCTL_BENCH_SETTINGS"
CARRIED = (
    "broker_transport_options",
    "result_backend_transport_options",
    "broker_use_ssl",
    "redis_backend_use_ssl",
    "broker_failover_strategy",
)
_given = json.loads(os.environ.get(SETTINGS, "{}"))
app = App("qctl.bench", set_as_current=False, worker_store_failed=False, **_given)


@app.task(name="qctl.bench.nothing")
def nothing(value: Any = None) -> Any:
    return value
