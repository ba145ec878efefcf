"""No command prints the password of the broker, whatever its URL looks like."""

from __future__ import annotations

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
# All commands of one URL in one process, since starting Python is what takes the time.
RUN = """
import json, sys
from qctl.main import main
for words in json.loads(sys.argv[1]):
    print("$", *words, flush=True)
    main(["-t", "0.2", *words])
    sys.stdout.flush(); sys.stderr.flush()
"""


@pytest.mark.parametrize("given", ["option", "environment", "context"])
@pytest.mark.parametrize("url", ODD_URLS)
def test_no_command_prints_the_password(url: str, given: str, tmp_path: Path) -> None:
    import json

    env = {k: v for k, v in os.environ.items() if not k.startswith(("QCTL_", "CELERY_"))}
    env |= {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "s"), "PYTHONPATH": str(ROOT)}
    words = COMMANDS
    if given == "environment":
        env["QCTL_BROKER_URL"] = url
    elif given == "context":
        folder = tmp_path / ".config" / "qctl"
        folder.mkdir(parents=True, mode=0o700)
        (folder / "contexts.toml").write_text(f"[contexts.odd]\nbroker = {json.dumps(url)}\n")
        env["XDG_CONFIG_HOME"] = str(tmp_path / ".config")
        words = [["--context", "odd", *command] for command in COMMANDS]
    else:
        words = [["-b", url, *command] for command in COMMANDS]

    ran = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(words)],
        env=env,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        timeout=100,
        check=False,
    )

    said = "\n".join(line for line in ran.stdout.splitlines() if not line.startswith("$ ")) + ran.stderr
    assert ran.stdout.count("$ ") >= len(COMMANDS), said[-2000:]
    assert not [line for line in said.splitlines() if "hunter2" in line or "secret@" in line]


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
