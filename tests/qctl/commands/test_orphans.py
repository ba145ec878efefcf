"""What a command starts for itself is gone two seconds after it, however the command ends."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import aiohttp
import pytest

from qcore import App
from tests.support.processes import ROOT, Process, Processes
from tests.support.waiting import wait_for

#: the promise, seconds
MOST_S = 2.0
CODE = """
import time
from qcore import App
app = App("proj")

@app.task(name="proj.nap")
def nap():
    time.sleep(600)
"""


class Family:
    """The processes that inherited a mark in their environment."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex

    @property
    def env(self) -> dict[str, str]:
        return {"FAMILY_MARK": self.mark}

    def alive(self) -> dict[int, str]:
        """Command lines by process id; zombies have none and do not count."""
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (place / "environ").read_bytes():
                    words = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found[int(place.name)] = words
            except OSError:
                continue  # it went away while we looked
        return found

    def wait_for_member(self, words: str) -> None:
        wait_for(lambda: any(words in line for line in self.alive().values()), 30, words)

    def assert_gone_after(self, parent: Process) -> None:
        parent.kill9(group=False)
        wait_for(lambda: not self.alive(), MOST_S, f"nothing is left of {self.alive()}")


@pytest.fixture
def family() -> Family:
    return Family()


def test_the_worker_of_a_demo_that_is_killed(family: Family, processes: Processes, tmp_path: Path) -> None:
    demo = processes.qctl("demo", env={**family.env, "TMPDIR": str(tmp_path)}, fresh=True)
    demo.wait_output("qctl status")

    family.assert_gone_after(demo)


def test_the_worker_of_a_bench_that_is_killed(family: Family, processes: Processes, sqlite_url: str) -> None:
    bench = processes.qctl(
        "-b", sqlite_url, "bench", "--tasks", "20000", "-c", "2", env=family.env, fresh=True
    )
    family.wait_for_member("qctl.commands.bench.app")

    family.assert_gone_after(bench)


def test_the_worker_of_a_reloader_that_is_killed_while_a_task_runs(
    family: Family, processes: Processes, sqlite_url: str, tmp_path: Path
) -> None:
    (tmp_path / "proj.py").write_text(CODE)
    words = ("-A", "proj", "--workdir", str(tmp_path), "-b", sqlite_url, "worker", "--reload", "-c", "2")
    reloader = processes.qctl(*words, env={**family.env, "PYTHONPATH": str(ROOT)}, fresh=True)
    reloader.wait_output(r"\bready\b")
    app = App("asker", broker=sqlite_url, set_as_current=False)
    app.send_task("proj.nap")
    wait_for(lambda: app.broker.administration.depth("celery").in_flight == 1)

    family.assert_gone_after(reloader)

    app.close()


def test_the_dashboards_of_a_server_that_is_killed(
    family: Family, processes: Processes, sqlite_url: str
) -> None:
    server = processes.qctl("-b", sqlite_url, "events", "--serve", "--port", "0", env=family.env, fresh=True)
    base, _, token = server.wait_output(r"http://127\.0\.0\.1:\d+/\?token=\S+")[0].partition("?token=")

    async def visit() -> None:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
            async with browser.get(f"{base}?token={token}"):
                pass
            async with browser.ws_connect(f"{base}ws?width=100&height=30") as socket:
                while (await socket.receive(20)).type != aiohttp.WSMsgType.BINARY:
                    pass
                family.assert_gone_after(server)

    asyncio.run(visit())
