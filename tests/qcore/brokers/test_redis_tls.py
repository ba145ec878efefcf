"""Redis behind TLS: certificates are checked, and what is refused is refused in words."""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qcore import App
from qcore.brokers.contract.records import Message
from qcore.brokers.redis import tls
from qcore.brokers.registry import open_broker
from qcore.errors import BrokerDown, ConfigError
from qctl import exit_codes
from tests.conftest import missing_service
from tests.qctl.cli.test_command_line import qctl
from tests.support.certificates import Authority, Pair
from tests.support.processes import Processes
from tests.support.redis_server import TlsServer, require_server

Start = Callable[[Pair], TlsServer]


@pytest.fixture
def start(authority: Authority) -> Iterator[Start]:
    """Starts servers with the certificate they are given."""
    servers: list[TlsServer] = []

    def started(pair: Pair) -> TlsServer:
        try:
            servers.append(TlsServer(require_server(), pair.cert, pair.key, authority.ca.cert))
        except RuntimeError as exc:
            if "TLS support" not in str(exc):
                raise
            missing_service("the only Redis server here was built without TLS")
        return servers[-1]

    yield started
    for server in servers:
        server.stop()


def trusting(server: TlsServer, authority: Authority) -> str:
    return f"{server.url}?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs={authority.ca.cert}"


def test_a_good_certificate_works_end_to_end(
    start: Start, authority: Authority, processes: Processes
) -> None:
    url = trusting(start(authority.signed("good")), authority)
    worker = processes.start_qcore_worker(url, "-c", "1", name="w@test")
    app = App("client", broker=url, set_as_current=False)

    result = app.send_task("proj.add", (2, 3))
    status = qctl("status", "-o", "json", QCTL_BROKER_URL=url)

    assert result.get(timeout=60) == 5
    assert [item["node"] for item in json.loads(status.stdout)["items"]] == ["w@test"]
    worker.term()
    assert worker.wait() == 0
    assert "not checked" not in worker.output()
    app.close()


def test_a_certificate_for_another_host_is_refused(start: Start, authority: Authority) -> None:
    url = trusting(start(authority.signed("elsewhere", "DNS:elsewhere.example")), authority)

    done = qctl("status", QCTL_BROKER_URL=url)

    assert done.returncode == exit_codes.UNAVAILABLE
    assert "its certificate is refused: IP address mismatch" in done.stderr
    assert "_ssl.c" not in done.stderr
    assert done.stderr.startswith("qctl: cannot reach the broker at rediss://127.0.0.1:")


def test_a_certificate_that_nobody_signed_is_refused(start: Start, authority: Authority) -> None:
    server = start(authority.self_signed("lonely"))

    for url in (server.url, trusting(server, authority)):
        done = qctl("-A", "tests.projects.proj", "worker", "-c", "1", QCTL_BROKER_URL=url)
        assert done.returncode == exit_codes.UNAVAILABLE
        assert "its certificate is refused: self-signed certificate" in done.stderr


def test_a_server_that_speaks_no_tls_is_not_waited_for(redis_url: str) -> None:
    with pytest.raises(BrokerDown, match="Timeout connecting"):
        open_broker(redis_url.replace("redis://", "rediss://"), {"connect_timeout_s": 1.0}).check()


def test_celerys_broker_use_ssl_is_honoured(start: Start, authority: Authority) -> None:
    server = start(authority.signed("good"))
    use_ssl = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_ca_certs": str(authority.ca.cert)}
    url = server.url.replace("rediss://", "redis://")  # the dict alone asks for TLS, as with kombu
    app = App("x", broker=url, broker_use_ssl=use_ssl, set_as_current=False)

    app.broker.publish([Message(b"m", queue="q")])

    assert app.broker.administration.peek("q") == [b"m"]
    app.close()
    with pytest.raises(BrokerDown, match="its certificate is refused"):
        App("y", broker=url, broker_use_ssl=True, set_as_current=False).broker.check()


def test_no_check_at_all_must_be_asked_for_and_is_said_once(
    start: Start, authority: Authority, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "_warned", set())
    server = start(authority.self_signed("lonely"))
    url = f"{server.url}?ssl_cert_reqs=CERT_NONE"

    with caplog.at_level(logging.WARNING, "qcore.broker"):
        for _ in range(2):
            broker = open_broker(url)
            broker.publish([Message(b"m", queue="q")])
            broker.close()

    (said,) = [record.getMessage() for record in caplog.records if record.name == "qcore.broker"]
    assert said.startswith(
        f"the certificate of the broker at {url} is not checked: ssl_cert_reqs is CERT_NONE"
    )


def test_a_worker_says_so_once_at_its_start(start: Start, authority: Authority, processes: Processes) -> None:
    server = start(authority.self_signed("lonely"))

    worker = processes.start_qcore_worker(f"{server.url}?ssl_cert_reqs=none", "-c", "2")
    worker.term()

    assert worker.wait() == 0
    assert worker.output().count("is not checked") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ssl_ca_certs": "/nowhere/ca.pem"}, "no file '/nowhere/ca.pem', which ssl_ca_certs names"),
        ({"ssl_cert_reqs": "CERT_SOMETIMES"}, "takes CERT_REQUIRED, CERT_OPTIONAL or CERT_NONE"),
        ({"ca_certs": "x"}, "knows no 'ca_certs'"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        open_broker("rediss://127.0.0.1:1/0", {"broker_use_ssl": options})


def test_a_certificate_authority_that_is_not_there_is_a_bad_setting(tmp_path: Path) -> None:
    done = qctl("status", QCTL_BROKER_URL=f"rediss://127.0.0.1:1/0?ssl_ca_certs={tmp_path}/none.pem")

    assert done.returncode == exit_codes.BAD_CONFIG
