"""Results in Redis under Celery's keys, so that the clients of Celery read them too.

In and out: as results/base.py; the work is done by brokers/redis.py.
"""

from __future__ import annotations

from qcore.results.base import results
from qcore.results.broker import BrokerResults


@results.register("redis")
class RedisResults(BrokerResults):
    """The result half of the redis broker, at a URL of its own."""
