"""One broker, workers and clients of both kinds: every serializer, every compression, signed messages."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from qcore.brokers.contract.records import Message
from qcore.brokers.registry import open_broker
from qcore.wire import envelope
from tests.support.processes import Process, Processes, run_python
from tests.support.signers import Signer, signer

WIRED = "tests.projects.wired"
BOTH = ("qcore", "celery")
#: what both clients get from both workers
CHAINS = {f"chain of-{one}": 10 for one in BOTH} | {f"fail of-{one}": "LookupError ('odd',)" for one in BOTH}


def env(settings: dict[str, Any]) -> dict[str, str]:
    return {"WIRED": json.dumps(settings), "C_FORCE_ROOT": "1"}


def start(
    processes: Processes,
    url: str,
    settings: dict[str, Any],
    theirs: dict[str, Any] | None = None,
    pool: str = "threads",
) -> tuple[Process, Process]:
    """A worker of each kind; theirs: the settings of Celery's, if they are others."""
    ours = processes.qctl(
        *("-A", WIRED, "-b", url, "worker", "-Q", "of-qcore", "-P", pool, "-c", "2", "-l", "INFO"),
        *("-n", "ours@test"),
        env=env(settings),
    )
    celerys = processes.celery(
        *("-A", WIRED, "worker", "-Q", "of-celery", "-P", "solo", "-l", "INFO", "-n", "celerys@test"),
        env=env(theirs or settings),
    )
    for worker in (ours, celerys):
        worker.wait_output(r"\bready\b")
    return ours, celerys


def ask(kind: str, what: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What a client of this kind prints."""
    client = f"from tests.projects import wired; wired.main({what!r})"
    if kind == "qcore":
        client = f"from qcore.celery import install; install(); {client}"
    imports = "qctl" if kind == "qcore" else "celery"
    done = run_python("-c", client, env={**os.environ, **env(settings)}, imports=imports, timeout_s=110)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.partition("ANSWER ")[2])
    return found


@pytest.mark.parametrize(
    "results",
    [{"result_serializer": "pickle", "result_compression": "gzip"}, {"result_serializer": "yaml"}],
    ids=["pickle", "yaml"],
)
def test_each_side_reads_every_serializer_and_compression_of_the_other(
    redis_url: str, processes: Processes, results: dict[str, str]
) -> None:
    settings = {
        "broker_url": redis_url,
        "result_backend": redis_url,
        "accept_content": ["json", "yaml", "msgpack", "pickle", "application/x-backwards"],
        "task_serializer": "msgpack",
        "task_compression": "bzip2",
        "event_serializer": "yaml",
        **results,
    }
    start(processes, redis_url, settings)
    odd = "Odd ('odd',) 7" if results["result_serializer"] == "pickle" else "Odd ('odd',)"

    for kind in BOTH:
        found = ask(kind, "table", settings)

        assert found.pop("wrong") == {}
        assert found.pop("sent") == 60
        failed = {name: found.pop(f"fail {name}") for name in ("of-qcore", "of-celery")}
        assert found == {
            f"{what} of-{one}": {"chord": 6, "chain": 10}[what] for what in ("chord", "chain") for one in BOTH
        }
        if results["result_serializer"] == "pickle":
            assert set(failed.values()) == {odd}
            assert ask(kind, "chains", {**settings, "task_protocol": 1}) == CHAINS


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Signer, Signer, Path]:
    folder = tmp_path_factory.mktemp("signers")
    store = folder / "store"
    return signer(folder, "ours", trusted=store), signer(folder, "theirs", trusted=store), store


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_signed_messages_go_from_one_to_the_other_and_others_are_refused(
    request: pytest.FixtureRequest,
    processes: Processes,
    signers: tuple[Signer, Signer, Path],
    broker: str,
    tmp_path: Path,
) -> None:
    url = request.getfixturevalue("redis_url" if broker == "redis" else "rabbit_url")
    ours, theirs, store = signers
    common = {"broker_url": url, "result_backend": url if broker == "redis" else "rpc://"}
    settings = {who: {**common, **one.settings(store)} for who, one in (("qcore", ours), ("celery", theirs))}
    worker, celerys = start(processes, url, settings["qcore"], settings["celery"], "prefork")

    for kind in BOTH:
        found = ask(kind, "chains", settings[kind])
        assert found == CHAINS, (kind, worker.output()[-2000:], celerys.output()[-2000:])

    stranger = signer(tmp_path, "stranger", trusted=tmp_path / "strangers")
    other = {**common, **stranger.settings(tmp_path / "strangers")}
    for who, more in {
        "json": {**common, "task_serializer": "json"},
        "stranger": other,
    }.items():
        task_id = ask("celery", "one", more)["of-qcore"]
        words = {"json": r"\(json\) is not accepted", "stranger": "Unknown certificate: 'Shop stranger"}[who]
        worker.wait_output(rf"{task_id}.*{words}|{words}.*{task_id}")
        lines = [line for line in worker.output().splitlines() if task_id in line and "ERROR" in line]
        assert len(lines) == 1

    sender = open_broker(url)
    sender.publish([altered(url, settings["celery"], sender)])
    worker.wait_output("not_verified: Bad signature")
    assert ask("celery", "chains", settings["celery"])["chain of-qcore"] == 10
    sender.close()


def altered(url: str, settings: dict[str, Any], broker: Any) -> Message:
    """A signed message whose body is another one than the one that was signed."""
    from celery.security import certificate, key, serialization

    wrote = serialization.SecureSerializer(
        key.PrivateKey(Path(settings["security_key"]).read_text()),
        certificate.Certificate(Path(settings["security_certificate"]).read_text()),
    ).serialize([[1, 2], {}, {}])
    body = base64.b64encode(base64.b64decode(wrote).replace(b"[1, 2]", b"[1, 3]").replace(b"[1,2]", b"[1,3]"))
    raw = envelope.wrap(
        body,
        exchange="",
        routing_key="of-qcore",
        content_type="application/data",
        headers={"task": "wired.add", "id": "altered", "lang": "py"},
    )
    return Message(raw, queue="of-qcore")
