"""Results in this process, for tests; equal memory:// URLs share them.

In and out: as results/base.py; the work is done by brokers/memory.py.
"""

from __future__ import annotations

from qcore.results.base import results
from qcore.results.broker import BrokerResults


@results.register("memory")
class MemoryResults(BrokerResults):
    """The result half of the memory broker, at a URL of its own."""
