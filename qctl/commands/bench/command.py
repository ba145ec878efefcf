"""`qctl bench`: measure publish, drain and round trip at a broker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import click

from qctl import exit_codes
from qctl.cli.command import command as page
from qctl.cli.confirm import ask
from qctl.cli.orphans import with_us
from qctl.cli.progress import Progress
from qctl.cli.session import Session, current
from qctl.commands.bench.app import CARRIED, QUEUE, SETTINGS
from qctl.output.table import Column
from qctl.output.text import count

TASK = "qctl.bench.nothing"
BATCH = 1000
READY_S, STOP_S = 20.0, 20.0


@page(
    "bench",
    changes=True,
    watches=False,
    examples=[
        ("qctl bench", "the embedded broker"),
        ("qctl -b redis://host/0 bench --tasks 50000", "a Redis server, with more tasks"),
    ],
    exit_codes={
        exit_codes.FAILED: "its queue is in use, the worker did not start, or you answered no",
        exit_codes.REFUSED: exit_codes.TABLE[exit_codes.REFUSED],
    },
    see_also=["doctor"],
)
@click.option("--tasks", type=click.IntRange(10), default=10_000, help="Number of tasks. [default: 10000]")
@click.option("--trips", type=click.IntRange(1), default=500, help="Number of round trips. [default: 500]")
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(1),
    default=2,
    help="Number of processes of the worker. [default: 2]",
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation in a context of class prod.")
def command(tasks: int, trips: int, concurrency: int, yes: bool) -> int:
    """Measure the throughput of this broker with empty tasks.

    It publishes them one at a time and in batches to the queue qctl.bench, runs them with a worker of its
    own, and measures round trips of single tasks. Other queues are not touched; at the end it purges its
    queue and deletes the results.
    """
    session = current()
    if session.context is not None and session.context.is_prod:
        ask(f"{count(tasks, 'task')} that do nothing, at '{session.context.name}',", "run", yes)
    broker = session.broker
    broker.check()
    if broker.administration.depth(QUEUE).ready:
        raise exit_codes.CommandError(
            exit_codes.FAILED,
            f"the queue {QUEUE} is not empty",
            f"is another bench running? `qctl purge -Q {QUEUE}`",
        )
    worker, ids = None, list[str]()
    few = max(10, tasks // 10)
    try:
        with Progress(session, 0, "measured"):
            single_s = _send_single(session, few, ids)
            bulk_s = _send_bulk(session, tasks, ids)
            sent = few + tasks
            worker, started = _start(session, concurrency)
            drained_s = _drain(session, worker, started)
            times = _round_trips(session, trips, ids)
    finally:
        if worker is not None:
            _stop(worker)
        broker.administration.purge(QUEUE)
        for start in range(0, len(ids) if session.app.results.keeps else 0, BATCH):
            session.app.results.forget(ids[start : start + BATCH])
    items = [
        {
            "figure": "publish, one at a time",
            "value": round(few / single_s, 1),
            "unit": "tasks/s",
        },
        {"figure": "publish, 1,000 at a time", "value": round(tasks / bulk_s, 1), "unit": "tasks/s"},
        {"figure": "drain, results stored", "value": round(sent / drained_s, 1), "unit": "tasks/s"},
        *(
            {"figure": f"round trip, {name}", "value": round(_part(times, share) * 1000, 3), "unit": "ms"}
            for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
        ),
    ]
    columns = [Column("FIGURE"), Column("VALUE", True), Column("UNIT")]
    rows = [[str(i["figure"]), f"{i['value']:,}", str(i["unit"])] for i in items]
    session.out.items("bench", items, columns, rows, "figure")
    session.out.note(f"{sent:,} tasks, {concurrency} processes; the worker's first second is included")
    return exit_codes.OK


def _send_single(session: Session, number: int, ids: list[str]) -> float:
    """Publish one by one; return the seconds. The ids are appended to `ids`, to delete the results later."""
    began = time.perf_counter()
    ids += [session.app.send_task(TASK, (i,), queue=QUEUE).id for i in range(number)]
    return time.perf_counter() - began


def _send_bulk(session: Session, number: int, ids: list[str]) -> float:
    signature = session.app.signature(TASK, (1,), options={"queue": QUEUE})
    began = time.perf_counter()
    for start in range(0, number, BATCH):
        sent = session.app.send_many([signature] * min(BATCH, number - start))
        ids += [result.id for result in sent]
    return time.perf_counter() - began


def _start(session: Session, concurrency: int) -> tuple[subprocess.Popen[bytes], float]:
    env = {**os.environ, "QCTL_BROKER_URL": session.app.broker_url()}
    env.pop("QCTL_CONTEXT", None)  # the broker URL is given
    if session.app.conf.result_backend:
        env["QCTL_RESULT_BACKEND"] = str(session.app.conf.result_backend)
    # The worker must use the same broker settings: prefix, certificates.
    conf = session.app.conf
    env[SETTINGS] = json.dumps({name: conf[name] for name in CARRIED if conf.get(name)}, default=str)
    words = [
        "-A",
        "qctl.commands.bench.app",
        "worker",
        "-Q",
        QUEUE,
        "-c",
        str(concurrency),
        "-n",
        f"bench{os.getpid()}@%h",
    ]
    began = time.perf_counter()
    worker = subprocess.Popen(
        [sys.executable, "-m", "qctl", *words],
        env=with_us(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return worker, began


def _stop(worker: subprocess.Popen[bytes]) -> None:
    worker.send_signal(signal.SIGTERM)
    try:
        worker.wait(STOP_S)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


def _drain(session: Session, worker: subprocess.Popen[bytes], began: float) -> float:
    """Seconds from the last poll before the first claim until the queue is empty and nothing is in flight."""
    broker = session.broker
    first = broker.administration.depth(QUEUE).ready
    taken, before = None, began
    while True:
        depth = broker.administration.depth(QUEUE)
        now = time.perf_counter()
        if taken is None and depth.ready < first:
            taken = before
        before = now
        if not depth.ready and not depth.in_flight:
            return now - (taken or began)
        if worker.poll() is not None or (taken is None and now - began > READY_S):
            raise exit_codes.CommandError(
                exit_codes.FAILED, "the worker of the bench did not start; try `qctl demo`"
            )
        time.sleep(0.01)


def _round_trips(session: Session, number: int, ids: list[str]) -> list[float]:
    times = []
    for i in range(number):
        began = time.perf_counter()
        sent = session.app.send_task(TASK, (i,), queue=QUEUE)
        ids.append(sent.id)
        sent.get(timeout=10)
        times.append(time.perf_counter() - began)
    return sorted(times)


def _part(times: list[float], share: float) -> Any:
    return times[min(int(len(times) * share), len(times) - 1)]
