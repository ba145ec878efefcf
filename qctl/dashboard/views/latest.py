"""Lists of the newest tasks of a queue, a name or a worker, in panels of the screens.

In:  a Scene, what the tasks have in common.  Out: lines of a Canvas. Before this: band.py and pages.py.
"""

from __future__ import annotations

import ast
import time
from collections import Counter
from collections.abc import Sequence
from statistics import median

from qcore.events.store.table import TaskSeen
from qctl.dashboard.state.latency import LEAST
from qctl.dashboard.state.lazy_rows import TaskRows
from qctl.dashboard.state.series import quantiles, spark_of
from qctl.dashboard.state.snapshot import Snapshot, WorkerRow
from qctl.dashboard.views import panels
from qctl.dashboard.views.cells import arguments
from qctl.dashboard.views.columns import CALL, TASK_FIELDS, WORKER_FIELDS
from qctl.dashboard.views.panels import Box, Scene, short_age
from qctl.dashboard.widgets.canvas import Canvas
from qctl.dashboard.widgets.fields import Field, Part, widths_of
from qctl.output.secrets import hide
from qctl.output.text import age, cut

#: cells from which a list of tasks is drawn beside a chart
LEAST_LIST = 40
FIELDS = (
    Field("SINCE", 8, 1),
    Field("TASK", 12, 0, grows=True, most=24),
    Field("STATE", 10, 0),
    Field("TIME", 6, 2, right=True),
    Field("WORKER", 10, 5, middle=True, grows=True, most=16),
    Field(CALL, 22, 3, grows=3),
)


WORKERS = (
    Field("WORKER", 10, 0, grows=True, middle=True, most=24),
    Field("STATE", 8, 2),
    Field("RUN", 7, 0, right=True),
    Field("BUSY", 10, 1, grows=4),
    Field("RATE", 6, 3, right=True),
    Field("HELD", 5, 4, right=True),
    Field("LOAD", 5, 5, right=True),
    Field("MEMORY", 6, 6, right=True),
)
BUSY = 3  # the place of its history
TYPES = (
    Field("TASK", 12, 0, grows=True, most=32),
    Field("SEEN", 5, 2, right=True),
    Field("FAILED", 6, 3, right=True),
    Field("RUN P50", 7, 1, right=True),
    Field("P95", 6, 0, right=True),
    Field("BUSY", 6, 4, grows=True),
)
MEMBERS = (
    Field("FAILED", 8, 0),
    Field("WORKER", 10, 2, middle=True),
    Field("ID", 8, 0),
    Field("TRY", 3, 3, right=True),
    Field("ARGUMENTS", 12, 1, grows=True),
)
#: lines of the chart above the task names of a queue, at least
LEAST_ABOVE = 5
#: lines of the workers and of the task names of a queue, headings included
MOST_LINES = 5
#: arguments of a group that are listed at most, and their cells
MOST_COMMON, LONGEST_VALUE = 8, 28
#: so many of the newest tasks of a queue are counted by their names
MOST_SEEN = 200


def newest(picture: Snapshot, column: str, word: str, most: int) -> list[TaskSeen]:
    """The newest tasks whose column (names, queues, workers) has this word."""
    rows = picture.tasks
    return rows.newest(column, word, most) if isinstance(rows, TaskRows) else []


def task_of(picture: Snapshot, uuid: str) -> TaskSeen | None:
    """A task that is remembered."""
    rows = picture.tasks
    return rows.of(uuid) if isinstance(rows, TaskRows) else None


def in_words(scene: Scene, found: Sequence[TaskSeen]) -> list[tuple[str, str, str]]:
    """What became of the newest tasks of a queue: how many failed, how long they waited and ran."""
    if not found:
        return []
    ended = [task for task in found if task.is_ready]
    failed = sum(task.state == "FAILURE" for task in ended)
    # The wait of a retry is not time in a queue.
    began = [task for task in found if task.sent and task.started and not task.retries]
    waited = [max((task.started or 0.0) - (task.sent or 0.0), 0.0) for task in began]
    ran = [task.runtime for task in ended if task.runtime is not None]
    newest_at = max(
        (at for task in found if (at := task.started or task.received or task.sent)), default=None
    )
    ago = "-" if newest_at is None else f"{age(max(scene.panes.now - newest_at, 0.0))} ago"
    look = scene.panes.style("failed") if failed else ""
    share = f", {failed / len(ended):.0%}" if failed else ""
    of = f"{failed:,} of the {len(ended):,} seen{share}"
    times = [("waited", spread(waited), ""), ("ran", spread(ran), "")]
    return [("newest", ago, ""), ("failed", of, look), *times]


def spread(values: Sequence[float]) -> str:
    """The median and the longest of some durations, and how many they are if they are few."""
    if not values:
        return "-"
    few = f" n {len(values)}" if len(values) < LEAST else ""
    return f"p50 {short_age(median(values))} max {short_age(max(values))}{few}"


def of_queue(canvas: Canvas, left: Box, box: Box, scene: Scene, name: str, found: Sequence[TaskSeen]) -> Box:
    """Who takes from a queue, and the newest tasks that went through it; at the left, which tasks these are.
    Returns what is left there, above them."""
    panes, y = scene.panes, box.y
    workers = [w for w in scene.picture.workers if name in w.queues and w.state != "gone"][: MOST_LINES - 1]
    if workers:
        _workers(canvas, box._replace(y=y), scene, workers)
        y += len(workers) + 1
    names = Counter(task.name for task in found)
    lines = []
    for task, count in names.most_common(MOST_LINES - 1):
        known = scene.charts.types.get(task)
        times = None if known is None else quantiles(known.run.within(scene.range_number, scene.picture.at))
        failed = sum(one.name == task and one.state == "FAILURE" for one in found)
        lines.append(
            [
                Part(task or "?"),
                Part(f"{count:,}"),
                Part(f"{failed:,}", panes.style("failed") if failed else ""),
                *(Part(short_age(times[n] if times else None)) for n in (0, 1)),
                Part(""),
            ]
        )
    fields = panels.fitted(TYPES, lines)
    room = widths_of(fields, left.cells)[-1]
    for line in lines if room else ():
        known = scene.charts.types.get(line[0].text)
        busy = spark_of(known.busy if known else None, panes.now, scene.seconds, room, panes.plain)
        line[-1] = Part(busy, panes.thin("running"))
    tasks(
        canvas,
        box._replace(y=y, rows=box.y + box.rows - y),
        scene,
        found,
        "no task of this queue was seen lately",
    )
    if not lines or left.rows < len(lines) + 1 + LEAST_ABOVE:
        return left
    above = left.rows - len(lines) - 1
    panels.table(canvas, left._replace(y=left.y + above, rows=len(lines) + 1), scene, fields, lines)
    return left._replace(rows=above)


def _workers(canvas: Canvas, box: Box, scene: Scene, rows: Sequence[WorkerRow]) -> None:
    """A table of workers, with the history of each."""
    panes, lines = scene.panes, []
    for row in rows:
        of = dict(zip((field.name for field in WORKER_FIELDS), panes.worker(row), strict=True))
        lines.append([of.get(field.name, Part("")) for field in WORKERS])
    fields = panels.fitted(WORKERS, lines)
    room = widths_of(fields, box.cells)[BUSY]
    for row, line in zip(rows, lines, strict=True) if room else ():
        busy = spark_of(scene.charts.workers.get(row.node), panes.now, scene.seconds, room, panes.plain, 1.0)
        line[BUSY] = Part(busy, panes.thin("running"))
    panels.table(canvas, box, scene, fields, lines)


def members(canvas: Canvas, box: Box, scene: Scene, rows: Sequence[tuple[float, str, str]]) -> None:
    """When and where tasks of a group failed, their ids, and with which arguments if that is known."""
    lines = []
    for at, node, uuid in rows[: box.rows - 1]:
        task = task_of(scene.picture, uuid)
        tries = "-" if task is None else str(task.retries + 1)
        call = "-" if task is None else arguments(task)
        when = time.strftime("%H:%M:%S", time.localtime(at))
        lines.append([Part(when), Part(node), Part(uuid[:8]), Part(tries), Part(call)])
    panels.table(canvas, box, scene, MEMBERS, lines)


def in_common(scene: Scene, rows: Sequence[tuple[float, str, str]]) -> list[tuple[str, int, str]]:
    """The arguments of the tasks of a group, in the order of what they have in common: each with its most
    frequent value, how many tasks have that, and how many other values there are."""
    found: dict[str, Counter[str]] = {}
    for _, _, uuid in rows:
        task = task_of(scene.picture, uuid)
        for name, value in [] if task is None else _values(task):
            found.setdefault(name, Counter())[value] += 1
    common = []
    for name, values in found.items():
        value, count = values.most_common(1)[0]
        others = "" if len(values) == 1 else f", {len(values) - 1} others"
        text = cut(f"{name}: {value}", LONGEST_VALUE)
        common.append((text, count, f"{count / values.total():.0%}{others}"))
    return sorted(common, key=lambda one: -one[1])[:MOST_COMMON]


def _values(task: TaskSeen) -> list[tuple[str, str]]:
    """The arguments of a task by name or place; none if they cannot be read."""
    try:
        args = ast.literal_eval(task.args or "()")
        kwargs = ast.literal_eval(task.kwargs or "{}")
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # shortened, or not of simple types
        return []
    if not isinstance(args, tuple | list) or not isinstance(kwargs, dict):
        return []
    places = [(f"argument {number}", repr(value)) for number, value in enumerate(args, 1)]
    return places + [(str(name), repr(hide(value, str(name)))) for name, value in kwargs.items()]


def tasks(
    canvas: Canvas, box: Box, scene: Scene, rows: Sequence[TaskSeen], nothing: str, alike: str = ""
) -> None:
    """A table of tasks; nothing: what it says if there is none; alike: the column that is left out because
    they have it in common."""
    if not rows:
        canvas.text(box.x, box.y, nothing, scene.panes.style("faint"), box.cells)
        return
    of = {field.name: number for number, field in enumerate(TASK_FIELDS)}
    fields = [field for field in FIELDS if field.name != alike]
    room = widths_of(fields, box.cells)[-1]
    lines = []
    for row in rows[: box.rows - 1]:
        cells = scene.panes.task(row)
        call = Part(scene.panes.call(row, room), cells[of[CALL]].style)
        names = ["NAME" if field.name == "TASK" else field.name for field in fields[:-1]]
        lines.append([*(cells[of[name]] for name in names), call])
    panels.table(canvas, box, scene, fields, lines)
