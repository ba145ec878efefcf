"""Results in an SQLite file, on disk when store() returns.

In and out: as results/base.py; the work is done by brokers/sqlite.py.
"""

from __future__ import annotations

from qcore.results.base import results
from qcore.results.broker import BrokerResults


@results.register("sqlite")
class SqliteResults(BrokerResults):
    """The result half of the sqlite broker, at a URL of its own."""
