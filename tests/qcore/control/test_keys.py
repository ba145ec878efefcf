"""Signed control requests: who may do what, and what is refused, each for its own reason."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from qcore.app.app import App
from qcore.brokers.base import Broker
from qcore.brokers.registry import open_broker
from qcore.control.authorization import MOST_NONCES, SKEW_S, Authorizer
from qcore.control.commands.registry import commands
from qcore.control.keys import signing_key
from qcore.errors import ConfigError
from qcore.settings.config import Config
from qcore.wire import control as wire
from qcore.wire import envelope, seal
from qctl import exit_codes
from tests.qctl.cli.test_command_line import here
from tests.support.processes import Process, Processes
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_for

SECRETS = {"eye": "the eyes secret 01", "hand": "the hands secret 02", "boss": "the bosss secret 03"}
SCOPES = {"eye": "read", "hand": "operate", "boss": "admin"}
KEYS = {name: {"secret": SECRETS[name], "scope": SCOPES[name]} for name in SECRETS}


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def request(
    key: str = "boss",
    method: str = "shutdown",
    destination: list[str] | None = None,
    at: float = 1_800_000_000.0,
    secret: str = "",
    nonce: str = "n1",
) -> bytes:
    """A request as it travels, signed by a key."""

    def sealer(body: bytes, recipients: str) -> str:
        made = (secret or SECRETS[key]).encode()
        return seal.make(key, made, nonce, at, at + 60, recipients, body).text()

    return wire.encode_request(wire.Request(method, {}, destination), sealer)


def altered(raw: bytes, **changes: Any) -> bytes:
    """The same message with another body, and the seal it had."""
    found = envelope.decode(raw)
    body = json.dumps({**envelope.body_value(found), **changes}).encode()
    return envelope.wrap(body, exchange="celery.pidbox", routing_key="", headers=found.headers)


def refused(guard: Authorizer, raw: bytes, scope: str = "admin") -> str:
    """The reason, or '' when it may be carried out."""
    words = guard.refusal(wire.decode_request(raw), scope)
    return "" if words is None else words.partition("(")[2].partition(")")[0]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guard(clock: Clock) -> Authorizer:
    return Authorizer(Config({"control_keys": KEYS}), clock, started_at=0.0)


def test_what_is_signed_rightly_is_carried_out_once(guard: Authorizer) -> None:
    raw = request()

    assert refused(guard, raw) == ""
    assert refused(guard, raw) == "replayed"
    assert refused(guard, request(nonce="n2")) == ""


def test_each_kind_of_forgery_has_its_reason(guard: Authorizer, clock: Clock) -> None:
    to_one = request(destination=["w1@a"], nonce="n3")
    tampered = envelope.decode(request())
    tampered.headers = {**tampered.headers, seal.HEADER: tampered.headers[seal.HEADER].replace("n1", "n9")}
    cases = {
        "a changed body": (altered(request(), method="pool_shrink"), "bad_signature"),
        "changed arguments": (altered(request(), arguments={"signal": "KILL"}), "bad_signature"),
        "another reply place": (
            altered(request(), reply_to={"exchange": "reply.x", "routing_key": "y"}),
            "bad_signature",
        ),
        "another nonce": (envelope.encode(tampered), "bad_signature"),
        "another secret": (request(secret="some other secret 99"), "bad_signature"),
        "a header that is no seal": (
            envelope.wrap(b'{"method": "x"}', exchange="", routing_key="", headers={seal.HEADER: {"a": 1}}),
            "bad_signature",
        ),
        "another node": (altered(to_one, destination=["w2@a"]), "other_node"),
        "every node": (altered(to_one, destination=None), "other_node"),
        "a key that nobody knows": (request("boss", nonce="n4").replace(b";boss;", b";lord;"), "unknown_key"),
        "a narrow key": (request("eye", nonce="n5"), "wrong_scope"),
        "a narrower key": (request("hand", nonce="n6"), "wrong_scope"),
        "no signature": (wire.encode_request(wire.Request("shutdown", {})), "unsigned"),
        "one from yesterday": (request(at=clock.now - 86_400), "expired"),
        "one from tomorrow": (request(at=clock.now + 86_400), "expired"),
    }

    found = {what: refused(guard, raw) for what, (raw, _) in cases.items()}

    assert found == {what: reason for what, (_, reason) in cases.items()}
    assert guard.refused["bad_signature"] == 6
    assert guard.refused["other_node"] == 2
    assert sum(guard.refused.values()) == len(cases)


def test_clocks_may_be_half_a_minute_apart(guard: Authorizer, clock: Clock) -> None:
    assert refused(guard, request(at=clock.now + SKEW_S - 1, nonce="a")) == ""
    assert refused(guard, request(at=clock.now - 60 - SKEW_S + 1, nonce="b")) == ""
    assert refused(guard, request(at=clock.now - 60 - SKEW_S - 1, nonce="c")) == "expired"


def test_what_is_remembered_is_bounded_and_never_too_short(guard: Authorizer, clock: Clock) -> None:
    first = request(nonce="first")
    assert refused(guard, first) == ""
    guard._nonces.update((str(i), clock.now + 90) for i in range(MOST_NONCES))

    assert refused(guard, request(nonce="one more")) == "too_many"
    assert refused(guard, first) == "replayed"
    clock.now += 91
    assert refused(guard, request(at=clock.now, nonce="later")) == ""
    assert len(guard._nonces) < 10


def test_without_keys_everybody_may_and_with_keys_only_look() -> None:
    plain = wire.encode_request(wire.Request("x", {}))

    def free(**settings: Any) -> list[str]:
        guard = Authorizer(Config(settings))
        return [refused(guard, plain, scope) for scope in ("read", "operate", "admin")]

    assert free() == ["", "", ""]
    assert free(control_keys=KEYS) == ["", "unsigned", "unsigned"]
    assert free(control_keys=KEYS, control_unsigned="allow") == ["", "", ""]
    assert free(control_unsigned="read") == ["", "unsigned", "unsigned"]
    assert free(control_unsigned="refuse") == ["unsigned"] * 3


def test_every_command_has_a_scope() -> None:
    scopes = {c.name: c.scope for c in commands()}
    revoke = next(c for c in commands() if c.name == "revoke")

    writing = {"objgraph"}  # a file
    assert {scopes[c.name] for c in commands("inspect") if c.name not in writing} == {"read"}
    assert {n for n, s in scopes.items() if s == "admin"} == {
        *("shutdown", "terminate", "autoscale", "pool_grow", "pool_shrink", "pool_restart"),
    }
    assert (revoke.scope_for({}), revoke.scope_for({"terminate": True})) == ("operate", "admin")


def test_keys_come_from_settings_variables_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    path.write_text(f"boss:{SECRETS['boss']}\n")
    monkeypatch.setenv("THE_SECRET", SECRETS["hand"])
    from_env = {"hand": {"secret": "env:THE_SECRET", "scope": "operate"}}

    def of(**settings: Any) -> tuple[str, bytes] | None:
        key = signing_key(Config(settings, {}))
        return (key.id, key.secret) if key else None

    boss = ("boss", SECRETS["boss"].encode())
    assert of() is None
    assert of(control_sign_key=f"boss:{SECRETS['boss']}") == boss
    assert of(control_sign_key=f"file:{path}") == boss
    assert of(control_keys=KEYS) == boss  # the widest
    assert of(control_keys=from_env) == ("hand", SECRETS["hand"].encode())
    for wrong in (
        {"control_keys": {"a": {"secret": "short"}}},
        {"control_keys": {"a": {"secret": "env:NOT_SET_ANYWHERE"}}},
        {"control_keys": {"a": {"secret": "file:/not/there"}}},
        {"control_keys": {"a;b": {"secret": "x" * 20}}},
        {"control_keys": {"a": {"secret": "x" * 20, "scope": "root"}}},
        {"control_keys": {"a": "x" * 20}},
        {"control_sign_key": "nobody"},
    ):
        with pytest.raises(ConfigError):
            of(**wrong)


class Guarded(NamedTuple):
    url: str
    worker: Process
    app: App


@pytest.fixture(scope="module")
def guarded(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """One worker with three keys."""
    if redis_server.process is None:
        redis_server.start()
    with redis_server.client() as client:
        client.flushall()
    processes = Processes(tmp_path_factory.mktemp("guarded"))
    settings = {"SERVED_SETTINGS": json.dumps({"control_keys": KEYS})}
    worker = processes.start_qcore_worker(
        redis_server.url,
        *("-c", "2", "-P", "threads"),
        name="w1@test",
        app="tests.projects.served",
        env=settings,
    )
    app = App("asker", broker=redis_server.url, set_as_current=False)
    yield Guarded(redis_server.url, worker, app)
    app.close()
    processes.close()


def test_a_live_worker_refuses_what_is_not_signed_and_says_why(guarded: Guarded) -> None:
    control, worker = guarded.app.control, guarded.worker
    add = {"task_name": "proj.add"}
    told: list[tuple[str, dict[str, Any]]] = [
        ("shutdown", {}),
        ("pool_shrink", {"n": 1}),
        ("add_consumer", {"queue": "x"}),
        ("rate_limit", {**add, "rate_limit": "1/s"}),
        ("time_limit", {**add, "soft": 1}),
        ("autoscale", {"max": 2, "min": 1}),
        ("terminate", {"signal": "KILL", "task_id": ["a"]}),
        ("revoke", {"task_id": ["a"], "terminate": True}),
    ]

    answers = {m: control.ask(m, a, timeout_s=60).replies["w1@test"] for m, a in told}
    pong = control.ask("ping").replies
    count = control.ask("stats", timeout_s=60).replies["w1@test"]["control_refused_total"]

    assert all(a["error"].startswith("refused (unsigned)") for a in answers.values()), answers
    assert "QCTL_CONTROL_KEY" in answers["shutdown"]["error"]
    assert pong == {"w1@test": {"ok": "pong"}}
    assert count["unsigned"] == len(told)
    assert worker.is_running
    lines = [line for line in worker.output().splitlines() if "was refused (unsigned)" in line]
    assert len(lines) == 1
    assert "3 keys; unsigned requests may only read" in worker.output()


def test_a_live_worker_refuses_each_forgery(guarded: Guarded, tmp_path: Path) -> None:
    """C20 of the corpus: a bad, a missing, a replayed and a wrong-scope signature."""
    now, app = time.time(), guarded.app
    before = app.control.ask("stats", timeout_s=60).replies["w1@test"]["control_refused_total"]
    raw = request("hand", "disable_events", at=now, nonce="once")

    for said in (
        raw,
        raw,
        altered(request("boss", at=now, nonce="n2"), arguments={"x": 1}),
        wire.encode_request(wire.Request("shutdown", {})),
        request("eye", at=now, nonce="n3"),
        request("boss", at=now - 3600, nonce="n4"),
        altered(request("boss", destination=["w2@test"], at=now, nonce="n5"), destination=["w1@test"]),
    ):
        app.broker.broadcast(app.control.exchange, "", said)
    after = wait_for(
        lambda: (
            (c := app.control.ask("stats", timeout_s=60).replies["w1@test"]["control_refused_total"])
            and c.get("other_node")
            and c
        )
    )

    grown = {reason: after[reason] - before.get(reason, 0) for reason in after}
    assert grown == dict.fromkeys(
        ("replayed", "bad_signature", "unsigned", "wrong_scope", "expired", "other_node"), 1
    )
    assert guarded.worker.is_running


def test_qctl_signs_with_the_key_it_is_given(guarded: Guarded, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"hand:{SECRETS['hand']}\n")

    def run(*words: str, key: str = "") -> Any:
        return here(*words, QCTL_BROKER_URL=guarded.url, **({"QCTL_CONTROL_KEY": key} if key else {}))

    alone = run("control", "enable_events")
    signed = run("control", "enable_events", key=f"file:{path}")
    narrow = run("control", "shutdown", "--yes", key=f"file:{path}")
    shown = run("inspect", "conf", key=f"boss:{SECRETS['boss']}")

    assert alone.returncode == exit_codes.FAILED
    assert "refused (unsigned)" in alone.stderr
    assert signed.returncode == exit_codes.OK, signed.stderr
    assert narrow.returncode == exit_codes.FAILED
    assert "refused (wrong_scope)" in narrow.stderr
    assert guarded.worker.is_running
    assert not any(secret in shown.stdout + shown.stderr for secret in SECRETS.values())
    stopped = run("control", "shutdown", "--yes", key=f"boss:{SECRETS['boss']}")
    assert stopped.returncode == exit_codes.OK, stopped.stderr
    assert guarded.worker.wait() == 0


def test_what_an_earlier_worker_received_is_refused_by_the_next(clock: Clock) -> None:
    """With a broker that remembers, and with one that does not."""

    def started(broker: Broker | None) -> Authorizer:
        guard = Authorizer(Config({"control_keys": KEYS}), clock)
        if broker is not None:
            guard.remember_at(broker, "w1@a")
        return guard

    for broker in (open_broker("memory://replays"), None):
        clock.now += 1000
        raw, before = request(at=clock.now, nonce="a"), request(at=clock.now - 40, nonce="b")
        assert refused(started(broker), raw) == ""
        clock.now += 3
        again = started(broker)
        assert refused(again, raw) == ("replayed" if broker else "too_old")
        assert refused(again, before) == "too_old"
        assert refused(again, request(at=clock.now, nonce="c")) == ""
        assert refused(again, request("eye", at=clock.now - 3, nonce="d"), "read") == ""


def test_a_recorded_shutdown_does_not_end_the_worker_that_was_started_again(
    redis_url: str, processes: Processes
) -> None:
    settings = {"SERVED_SETTINGS": json.dumps({"control_keys": KEYS})}

    def start() -> Process:
        return processes.start_qcore_worker(
            redis_url, "-P", "threads", name="w1@test", app="tests.projects.served", env=settings
        )

    app = App("asker", broker=redis_url, set_as_current=False)
    first = start()
    recorded = request("boss", at=time.time(), nonce="recorded")
    app.broker.broadcast(app.control.exchange, "", recorded)
    assert first.wait() == 0

    second = start()
    app.broker.broadcast(app.control.exchange, "", recorded)

    second.wait_output("was refused .(replayed|too_old)")
    assert app.control.ask("ping").replies == {"w1@test": {"ok": "pong"}}
    fresh = request("boss", at=time.time(), nonce="fresh")
    app.broker.broadcast(app.control.exchange, "", fresh)
    assert second.wait() == 0
    app.close()
