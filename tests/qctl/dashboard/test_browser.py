"""`qctl events --serve`: only with the token, read-only, and the same screen as in a terminal."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections import Counter
from typing import Any

import aiohttp

from tests.support.processes import ROOT, Processes

#: what a browser sends for a page of somebody else, with the cookie of ours
FOREIGN = {
    "other page": {"Origin": "https://evil.example"},
    "other port": {"Origin": "http://127.0.0.1:1"},
    "no page": {"Origin": "null"},
    "other name": {"Host": "evil.example"},
}


async def downloaded(browser: aiohttp.ClientSession, base: str, socket: Any) -> str:
    """The next file that the dashboard offers."""
    while True:
        message = await socket.receive(20)
        assert message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT), message
        if message.type == aiohttp.WSMsgType.TEXT and message.json()[0] == "deliver_file_start":
            async with browser.get(f"{base}download/{message.json()[1]}") as answer:
                assert "attachment; filename=qctl-overview-" in answer.headers["Content-Disposition"]
                return await answer.text()


async def visit(address: str) -> dict[str, Any]:
    """What a browser gets: without the token, with it, and what the dashboard draws."""
    base, _, token = address.partition("?token=")
    seen: dict[str, Any] = {}
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        for path in ("", "ws", "?token=wrong", "static/js/textual.js"):
            async with browser.get(base + path) as answer:
                seen[path] = answer.status
        async with browser.get(f"{base}?token={token}", allow_redirects=False) as answer:
            seen["cookie"] = answer.headers["Set-Cookie"]
            seen["to"] = answer.headers["Location"]
        async with browser.get(base) as answer:
            seen["page"] = answer.status
        for what, headers in FOREIGN.items():
            async with browser.get(f"{base}ws?width=100&height=30", headers=headers) as answer:
                seen[what] = answer.status
        async with browser.get(base, headers={"Origin": base.rstrip("/")}) as answer:
            seen["own page"] = answer.status
        async with browser.ws_connect(f"{base}ws?width=100&height=30") as socket:
            text = ""
            await socket.send_json(["resize", {"width": 100, "height": 30}])
            while "up 1/1" not in text or "Throughput" not in text:
                message = await socket.receive(20)
                assert message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT), text
                if message.type == aiohttp.WSMsgType.BINARY:
                    text += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", message.data.decode(errors="replace"))
            seen["text"] = text
            await socket.send_json(["stdin", "\x13"])
            seen["svg"] = await downloaded(browser, base, socket)
    return seen


def test_a_browser_gets_the_dashboard_only_with_the_token(redis_url: str, processes: Processes) -> None:
    processes.start_qcore_worker(redis_url, "-c", "1", name="w1@test")
    server = processes.qctl("-b", redis_url, "events", "--serve", "--port", "0")
    found = server.wait_output(r"http://127\.0\.0\.1:\d+/\?token=\S+")

    seen = asyncio.run(visit(found[0]))

    assert [seen[p] for p in ("", "ws", "?token=wrong", "static/js/textual.js")] == [403] * 4
    assert "HttpOnly" in seen["cookie"]
    assert "SameSite=Strict" in seen["cookie"]
    assert found[0].partition("?token=")[2] not in seen["cookie"]
    assert (seen["to"], seen["page"], seen["own page"]) == ("/", 200, 200)
    assert [seen[what] for what in FOREIGN] == [403] * 4
    assert "RO" in seen["text"]
    assert "Throughput" in seen["text"]
    assert seen["svg"].startswith("<svg") and seen["svg"].endswith("</svg>\n")


#: two threads send packets that a pipe does not hold, as for a download while the screen changes
TWO_SENDERS = """
import asyncio
from textual.app import App
from qctl.dashboard import web_driver

async def main():
    driver = web_driver.SerialWebDriver(App())
    def draw():
        for _ in range(20):
            driver.write("d" * 100_000)
    def send():
        for _ in range(20):
            driver.write_binary_encoded((b"p" * 100_000,))
    await asyncio.gather(asyncio.to_thread(draw), asyncio.to_thread(send))

asyncio.run(main())
"""


def test_what_two_threads_send_to_the_server_arrives_in_whole_packets() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", TWO_SENDERS], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as sender:
        assert sender.stdout is not None
        kinds = Counter[bytes]()
        while head := sender.stdout.read(5):
            body = sender.stdout.read(int.from_bytes(head[1:], "big"))
            assert head[:1].lower() * 100_000 in body, head
            kinds[head[:1]] += 1

    assert kinds == {b"D": 20, b"P": 20}


def test_a_short_token_is_refused(processes: Processes) -> None:
    server = processes.qctl("events", "--serve", "--port", "0", env={"QCTL_SERVE_TOKEN": "short"})
    assert server.wait() == 78
    assert "QCTL_SERVE_TOKEN is too short" in server.output()
