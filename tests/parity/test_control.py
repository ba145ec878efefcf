"""Requests to workers: the same calls send the same here and with Celery; replies come in the same form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qctl import exit_codes
from qctl.main import main
from tests.parity.reference import pair
from tests.qctl.cli.test_command_line import qctl

NODES = ["w1@a", "w2@a"]
CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("revoke", ("an-id", NODES, True), {}),
    ("revoke", (["a", "b"],), {"terminate": True, "signal": "SIGKILL"}),
    ("terminate", ("an-id", NODES, "SIGKILL"), {}),
    ("revoke_by_stamped_headers", ({"batch": "7"}, NODES), {"terminate": True}),
    ("rate_limit", ("proj.add", "10/m", NODES), {}),
    ("time_limit", ("proj.add", 5, 9, NODES), {}),
    ("time_limit", ("proj.add",), {"hard": 9}),
    ("enable_events", (NODES,), {}),
    ("disable_events", (NODES,), {}),
    ("autoscale", (9, 2, NODES), {}),
    ("pool_grow", (2, NODES), {}),
    ("pool_shrink", (2,), {"destination": NODES}),
    ("add_consumer", ("mails", "an-exchange", "topic", "mails.#"), {"destination": NODES}),
    ("add_consumer", ("mails",), {}),
    ("cancel_consumer", ("mails", NODES), {}),
    ("heartbeat", (NODES,), {}),
    ("shutdown", (NODES,), {}),
    ("election", ("an-id", "a-topic", {"x": 1}), {}),
    ("ping", (NODES, 3.0), {}),
]


def sent(side: int, method: str, args: Any, kwargs: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command, its arguments and its destination of one call."""
    control, found = pair("app.control")[side], list[Any]()

    def broadcast(
        command: str, arguments: Any = None, destination: Any = None, connection: Any = None, **options: Any
    ) -> Any:
        found.append(
            (command, dict(arguments or {}), destination, options.get("reply"), options.get("timeout"))
        )
        return []

    monkeypatch.setattr(control, "broadcast", broadcast)
    getattr(control, method)(*args, **kwargs)
    ((command, arguments, destination, *options),) = found
    return command, without_defaults(arguments), destination, options


def without_defaults(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments as a worker takes them: one id as a list of one, no nulls, no type of no exchange."""
    given = {name: value for name, value in arguments.items() if value is not None}
    if isinstance(given.get("task_id"), str):
        given["task_id"] = [given["task_id"]]
    if "exchange" not in given:
        given.pop("exchange_type", None)
    return given


@pytest.mark.parametrize(("method", "args", "kwargs"), CALLS)
def test_a_method_sends_what_celerys_sends(
    method: str, args: Any, kwargs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = (sent(side, method, args, kwargs, monkeypatch) for side in (0, 1))

    assert ours == theirs


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(
    ("destination", "replies", "expected"),
    [
        (None, [{"w1@a": 1}, {"w2@a": 2}], {"w1@a": 1, "w2@a": 2}),
        (["w1@a"], [{"w1@a": 1}], {"w1@a": 1}),
        ("w1@a", [{"w1@a": 1}], 1),
        ("w1@a", [], None),
        (None, [], None),
    ],
)
def test_replies_come_as_in_celery(
    side: int, destination: Any, replies: Any, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = pair("app.control")[side]
    monkeypatch.setattr(control, "broadcast", lambda *args, **options: replies)
    inspect = control.inspect(destination)

    assert inspect.ping() == expected
    assert inspect.memdump() == expected
    assert inspect.objgraph(n=3) == expected


@pytest.mark.parametrize(
    "words", [("inspect", "-d", "nobody@x", "ping"), ("inspect", "ping", "-d", "nobody@x")]
)
def test_a_destination_may_stand_before_the_command(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["-b", "memory://", *words])

    assert code != exit_codes.OK
    assert "nobody@x" in capsys.readouterr().err


def test_a_variable_is_an_option_of_a_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CELERY_INSPECT_DESTINATION", "nobody@x")
    monkeypatch.setenv("CELERY_INSPECT_PING_TIMEOUT", "often")
    monkeypatch.setenv("CELERY_DEBUG", "no truth value")  # of no command

    assert main(["-b", "memory://", "inspect", "ping"]) == exit_codes.USAGE
    assert "often" in capsys.readouterr().err

    monkeypatch.setenv("CELERY_INSPECT_PING_TIMEOUT", "0.1")
    assert main(["-b", "memory://", "inspect", "ping"]) != exit_codes.OK
    assert "nobody@x" in capsys.readouterr().err


def test_a_variable_is_an_option_of_all_commands(tmp_path: Path) -> None:
    (tmp_path / "named_by_variable.py").write_text("from celery import Celery\napp = Celery('named')\n")
    url = f"sqlite:///{tmp_path}/named.db"
    before = (
        f"CELERY_{name}" for name in ("BROKER", "WORKDIR", "QUIET", "NO_COLOR", "APP", "RESULT_BACKEND")
    )
    values = (url, str(tmp_path), "1", "1", "named_by_variable", "cache+memory://")

    done = qctl("report", **dict(zip(before, values, strict=True)))
    loud = qctl("report", "-b", "memory://", "--workdir", str(tmp_path), "-A", "named_by_variable")

    assert done.returncode == loud.returncode == exit_codes.OK, done.stderr
    assert url in done.stdout and "cache+memory" in done.stdout
    assert "memory://" in loud.stdout


def test_a_variable_names_the_app(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("QCTL_APP", raising=False)
    monkeypatch.setenv("CELERY_APP", "no_such_app_module")

    assert main(["-b", "memory://", "inspect", "ping"]) == exit_codes.USAGE
    assert "no_such_app_module" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["inspect", "control"])
def test_commands_are_listed(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([kind, "--list"]) == exit_codes.OK

    assert {"inspect": "active", "control": "revoke"}[kind] in capsys.readouterr().out.split()


def test_a_rate_of_a_camera_that_is_none_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["-b", "memory://", "events", "-c", "qcore.events.camera.Polaroid", "-r", "often"])

    assert code == exit_codes.USAGE
    assert "'often' is not a rate" in capsys.readouterr().err
