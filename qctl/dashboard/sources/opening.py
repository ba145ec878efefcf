"""Open the source that the options of `qctl events` name: the live fleet, or a recording.

In:  a session and options.  Out: a Source that is not started. Before this: the command; after this:
start.py, once.py or accessible.py.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from qctl.cli.session import Session
    from qctl.dashboard.sources.base import Source
    from qctl.dashboard.views.cells import Where

#: limit for remembered tasks, bytes; it keeps the process below 450 MB, also while tasks come and go
MOST_BYTES = 220 * 2**20


class Feed(NamedTuple):
    """A recording to replay (None: the live fleet) and its speed; how many tasks are remembered; where the
    recording begins, or how long before its end; a folder of segments with which the charts begin."""

    replay: str | None
    speed: float
    max_tasks: int
    moment: datetime | timedelta | None = None
    history: str | None = None


def where_of(session: Session) -> Where:
    """The name of the session's context, and whether changes are permitted."""
    from qctl.dashboard.views.cells import Where

    context, warnings = session.context, []
    if context is not None and context.is_prod:
        warnings.append("PROD")
    if session.is_read_only:
        warnings.append("RO")
    return Where(context.name if context is not None else "", warnings=tuple(warnings))


def opened(session: Session, feed: Feed) -> Source:
    """The source. Raises CommandError for a recording without events, OSError, and ConfigError."""
    if feed.replay is not None:
        from qctl.dashboard.sources.replay import Replay

        return Replay(session.app, feed.replay, feed.speed, feed.max_tasks, MOST_BYTES, feed.moment)
    from qctl.dashboard.sources.live import LaterApp, LiveSource

    url = session.only_broker_url
    app = session.app if url is None else LaterApp(url, lambda: session.app)
    source = LiveSource(app, feed.max_tasks, MOST_BYTES)
    if feed.history is not None:
        from qctl.dashboard.state.history import load

        load(source.memory.charts, feed.history, time.time())
    return source
