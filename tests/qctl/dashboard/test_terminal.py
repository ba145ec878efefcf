"""The dashboard in a real terminal: an incident with real keys, and what the terminal is like afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from qcore import App
from tests.support.processes import Processes
from tests.support.redis_server import RedisServer, require_server
from tests.support.terminal import Terminal
from tests.support.waiting import wait_for

TASKS = 10_000
CRASH = """
import sys
from qctl.dashboard.screens import main as window
from qctl.main import main
window.MainWindow.draw = lambda *_: 1 / 0
sys.exit(main())
"""


def test_an_incident_is_run_with_real_keys(terminal: Terminal, redis_url: str, processes: Processes) -> None:
    worker = processes.start_qcore_worker(redis_url, "-c", "2", "-E", name="w1@test")
    client = App("client", broker=redis_url, set_as_current=False)
    terminal.run("-m", "qctl", "-b", redis_url, "events")
    terminal.sees("up 1/1")
    running = client.send_task("proj.nap", (60,))
    client.send_task("proj.fail", ("needle",))
    client.send_many([client.signature("proj.add", (1, 2)) for _ in range(TASKS)])
    terminal.press("3")
    terminal.sees(f"Tasks {TASKS + 2:,}", timeout_s=30)
    keys: dict[str, int] = {}
    terminal.path()

    terminal.press("/")
    terminal.type("fail")
    terminal.press("Enter")
    terminal.sees("proj.fail", "/fail/ 1")
    keys["find it"] = terminal.path()
    terminal.press("Enter")
    terminal.sees("Traceback", "raise ValueError", "needle")
    keys["read its traceback"] = terminal.path()
    terminal.press("q")
    terminal.sees("╭ Tasks")
    terminal.press("r")
    terminal.sees("qctl failed retry", "1 failed task would be retried")
    terminal.press("y")
    terminal.sees("1 of 1 failed task retried")
    keys["retry it"] = terminal.path()
    terminal.press("4", "P")
    terminal.sees("paused")
    wait_for(lambda: client.broker.administration.paused() == ["celery"])
    keys["pause its queue"] = terminal.path()
    terminal.press("u")
    wait_for(lambda: not client.broker.administration.paused())
    keys["resume it"] = terminal.path()
    terminal.press("3", "/")
    terminal.type("nap")
    terminal.press("Enter")
    terminal.sees("proj.nap", "running")
    terminal.press("x")
    terminal.sees("revoke proj.nap", "qctl task revoke")
    terminal.press("n")
    terminal.sees("running", not_this=["revoke proj.nap"])
    terminal.press("t")
    terminal.sees("kill proj.nap")
    terminal.press("y")
    wait_for(lambda: running.state == "REVOKED")
    keys["kill a running task"] = terminal.path()
    terminal.press("q")
    wait_for(lambda: not terminal.is_alternate)

    assert worker.is_running
    assert max(keys.values()) <= 15, keys
    client.close()


def test_a_broker_that_is_killed_and_comes_back(terminal: Terminal, processes: Processes) -> None:
    server = RedisServer(require_server())
    try:
        processes.start_qcore_worker(server.url, "-c", "1", "-E", name="w1@test")
        client = App("client", broker=server.url, set_as_current=False)
        terminal.run("-m", "qctl", "-b", server.url, "events")
        terminal.sees("up 1/1")
        terminal.press("3")
        client.send_task("proj.add", (4711, 2))
        terminal.sees("4711")
        server.kill9()
        terminal.sees("reconnecting", "as of", "next in", "4711")
        terminal.press("e")
        terminal.sees("not done: the broker is unreachable")
        server.start()
        terminal.sees("●", not_this=["reconnecting"])
        terminal.sees("4711", not_this=["Traceback"])
        client.send_task("proj.add", (4712, 2))
        terminal.sees("4712")
        client.close()
    finally:
        server.stop()


def dashboard(broker: str) -> int:
    """The process id of the dashboard of this broker."""
    found = subprocess.run(["pgrep", "-f", f"qctl -b {broker} events"], capture_output=True, text=True)
    return int(found.stdout.split()[0])


def test_a_dashboard_ends_when_its_terminal_is_closed(terminal: Terminal) -> None:
    terminal.run("-m", "qctl", "-b", "memory://closed", "events")
    terminal.sees("Throughput", "quit")
    pid = dashboard("memory://closed")
    for view, title in (("2", "Workers"), ("4", "Queues"), ("2", "Workers")):  # starts what works for a view
        terminal.press(view)
        terminal.sees(f"╭ {title}")
    threads = len(os.listdir(f"/proc/{pid}/task"))
    os.kill(pid, signal.SIGCONT)  # as the system does with the SIGHUP
    # Textual throws away what is typed in the moment in which it takes the terminal again.
    wait_for(lambda: terminal.press("4") is None and "╭ Queues" in "\n".join(terminal.screen()))

    # A second reader of the keyboard may outlive the window.
    wait_for(lambda: len(os.listdir(f"/proc/{pid}/task")) <= threads)

    terminal.close()

    wait_for(lambda: not Path(f"/proc/{pid}").exists(), 30)


def test_the_terminal_is_as_it_was_after_a_kill_a_stop_and_a_crash(terminal: Terminal) -> None:
    terminal.run("-m", "qctl", "-b", "memory://terminal", "events")
    terminal.sees("Throughput", "quit")
    assert terminal.is_alternate
    terminal.press("C-z")
    wait_for(lambda: not terminal.is_alternate)
    terminal.type("fg\n")
    terminal.sees("Throughput", "EMPTY IN", "quit")
    os.kill(dashboard("memory://terminal"), signal.SIGSTOP)  # from another terminal; the shell has this one
    terminal.sees("Stopped")
    terminal.type("fg\n")
    terminal.sees("Throughput", "quit", not_this=["Stopped"])
    terminal.press("2")
    terminal.sees("Workers", not_this=["Throughput"])
    os.kill(dashboard("memory://terminal"), signal.SIGTERM)
    wait_for(lambda: not terminal.is_alternate)
    terminal.type("echo ended $?\n")
    terminal.sees("ended 143")
    terminal.run("-c", CRASH, "-b", "memory://terminal", "events")
    terminal.sees("ZeroDivisionError", not_this=["File"])
    assert not terminal.is_alternate
    terminal.type("echo ended $?\n")
    terminal.sees("ended 70")
