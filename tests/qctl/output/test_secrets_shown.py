"""No command prints the password of the broker, whatever its URL looks like."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from qcore.errors import keep_secret, mask_url
from tests.support.processes import ROOT

#: URLs as people type them, none of them with its password escaped; nobody listens there
ODD_URLS = [
    "redis://:hunter2secret@127.0.0.1:1/0",
    "redis://:hunter2/secret@127.0.0.1:1/0",
    "redis://:hunter2#secret@127.0.0.1:1/0",
    "redis://:hunter2?secret@127.0.0.1:1/0",
    "redis://:hunter2 secret@127.0.0.1:1/0",
    "redis://:hunter2@secret@127.0.0.1:1/0",
    "redis://user:hunter2:secret@127.0.0.1:1/0",
    "reids://:hunter2secret@127.0.0.1:1/0",
    "redis:/:hunter2secret@127.0.0.1:1/0",
    "redis//:hunter2secret@127.0.0.1:1/0",
    "sentinel://127.0.0.1:1/0?master_name=m&sentinel_password=hunter2secret",
    "redis://127.0.0.1:1/0?password=hunter2/secret",
    "amqp://user:hunter2/secret@127.0.0.1:1//",
    "redis://:hunter2/secret@127.0.0.1:1/0;redis://:hunter2#secret@127.0.0.1:2/0",
]
COMMANDS = [
    ["status"],
    ["health"],
    ["doctor"],
    ["inspect", "ping"],
    ["control", "heartbeat"],
    ["report"],
    ["config", "ls"],
    ["config", "ls", "-o", "json"],
    ["config", "explain", "broker"],
    ["ctx", "ls"],
    ["ctx", "show"],
    ["events", "--dump"],
    ["list", "bindings"],
    ["queue", "ls"],
    ["queue", "ls", "-o", "json"],
    ["call", "a.b", "--no-check"],
    ["result", "00000000-0000-0000-0000-000000000000"],
    ["purge", "-f"],
    ["failed", "ls"],
    ["task", "ls"],
    ["metrics"],
    ["migrate", "redis://127.0.0.1:1/1", "redis://127.0.0.1:1/2"],
    ["worker"],
    ["bench", "--tasks", "10"],
    ["wait", "queue celery is empty"],
    ["audit"],
]
#: One process imports what the commands need; a fork of it for each URL knows nothing of the others.
RUN = """
import json, os, pathlib, sys
from qctl.main import main
urls, given, commands, folder = json.loads(sys.argv[1])
contexts = pathlib.Path(os.environ["XDG_CONFIG_HOME"], "qctl", "contexts.toml")

def run(url, at):
    for words in commands:
        if given == "option":
            words = ["-b", url, *words]
        elif given == "environment":
            os.environ["QCTL_BROKER_URL"] = url
        else:
            contexts.write_text(f"[contexts.odd]\\nbroker = {json.dumps(url)}\\n")
            words = ["--context", "odd", *words]
        print("$", *words[2 * (given != "environment"):], flush=True)
        main(["-t", "0.2", *words])
        sys.stdout.flush(); sys.stderr.flush()

for at, url in enumerate(["redis://127.0.0.1:1/0", *urls]):
    if at == 0 or os.fork() == 0:
        file = os.open(f"{folder}/{at}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, 1); os.dup2(file, 2)
        run(url, at)
        if at:
            os._exit(0)
    else:
        os.wait()
"""


@pytest.mark.parametrize("given", ["option", "environment", "context"])
def test_no_command_prints_the_password(given: str, tmp_path: Path) -> None:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("QCTL_", "CELERY_"))}
    env |= {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "s"), "PYTHONPATH": str(ROOT)}
    env["XDG_CONFIG_HOME"] = str(tmp_path / ".config")
    (tmp_path / ".config" / "qctl").mkdir(parents=True, mode=0o700)

    subprocess.run(
        [sys.executable, "-c", RUN, json.dumps([ODD_URLS, given, COMMANDS, str(tmp_path)])],
        env=env,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        timeout=100,
        check=True,
    )

    for at, url in enumerate(ODD_URLS, 1):
        said = (tmp_path / f"{at}.txt").read_text()
        assert said.count("$ ") >= len(COMMANDS), said[-2000:]
        shown = [line for line in said.splitlines() if not line.startswith("$ ")]
        assert not [line for line in shown if "hunter2" in line or "secret@" in line], url


@pytest.mark.parametrize("url", ODD_URLS)
def test_a_password_is_hidden_in_what_a_client_library_says(url: str) -> None:
    keep_secret(url)

    shown = mask_url(f"Error 111 connecting to {url}. Port could not be cast to integer value as '{url}'")

    assert "hunter2" not in shown
    assert "********" in shown


def test_a_password_that_is_a_common_word_hides_nothing_else() -> None:
    keep_secret("amqp://celery:celery@host:5672//")

    shown = mask_url("the queue celery at amqp://celery:celery@host:5672// is empty")

    assert shown == "the queue celery at amqp://celery:********@host:5672// is empty"


@pytest.mark.parametrize(
    "text",
    [
        "redis://127.0.0.1:6379/0 is away; ask w1@host",
        "w1@host: OK",
        "see https://example.org/a:b and mail a@b",
        "https://127.0.0.1:80",
        "/var/log/w1:2@host.log",
    ],
)
def test_a_text_without_a_password_stays_as_it_is(text: str) -> None:
    assert mask_url(text) == text


@pytest.mark.parametrize("head", ["a//b:", "redis://", "a//b/", "@"])
def test_a_long_text_is_masked_in_few_steps(head: str) -> None:
    # Each is over in milliseconds; a pattern that goes back would take minutes, and the test's time-out.
    assert mask_url(f"{head * 100_000}@").endswith("@")
