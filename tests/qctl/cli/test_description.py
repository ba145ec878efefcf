"""`qctl help -o json`: all commands as data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from qctl.manual import pages
from tests.qctl.cli.test_command_line import here


def every(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield found
    for inner in found.get("commands", ()):
        yield from every(inner)


def test_all_commands_are_described_with_their_options() -> None:
    done = here("help", "-o", "json")
    document = json.loads(done.stdout)
    described = {one["command"]: one for one in every(document)}

    shown = {name: page for name, page, _ in pages()}
    assert set(described) == set(shown)
    for name, page in shown.items():
        known = {word for one in described[name]["options"] for word in one["names"]}
        known |= {word for one in document["global_options"] for word in one["names"]}
        options = [p for p in page.params if isinstance(p, click.Option) and not p.hidden]
        assert {word for option in options for word in option.opts} <= known, name
    assert described["qctl queue ls"]["exit_codes"]["0"].startswith("done")
    assert described["qctl call"]["arguments"][0]["required"] is True


def test_one_command_is_described_alone() -> None:
    found = json.loads(here("help", "queue", "pause", "-o", "json").stdout)

    assert (found["schema"], found["command"]) == ("qctl.help", "qctl queue pause")
    assert any("--reason" in option["names"] for option in found["options"])
