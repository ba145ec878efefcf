"""Publish again after a broken connection, as task_publish_retry_policy says.

In:  a function that publishes.  Out: what it returned.  Before this: app.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from qcore.config import Config
from qcore.errors import BrokerDown

Published = TypeVar("Published")


def retried(publish: Callable[[], Published], conf: Config, retry: bool | None) -> Published:
    """What publish() returns in the end; raises its BrokerDown when the policy is used up. retry: the
    caller's own word instead of task_publish_retry."""
    try:
        return publish()
    except BrokerDown:
        if not (conf.task_publish_retry if retry is None else retry):
            raise
    policy = {"max_retries": 3, "interval_start": 0, "interval_max": 1, "interval_step": 0.2}
    policy.update(conf.task_publish_retry_policy)
    wait = float(policy["interval_start"] or 0)
    tries = policy["max_retries"]
    attempt = 0
    while True:
        attempt += 1
        time.sleep(wait)
        wait = min(wait + float(policy["interval_step"]), float(policy["interval_max"]))
        try:
            return publish()
        except BrokerDown:
            if tries is not None and attempt >= tries:
                raise
