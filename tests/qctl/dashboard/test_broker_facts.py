"""The Broker screen: what the server says of itself, and what two looks at it tell."""

from __future__ import annotations

from pathlib import Path

from qcore import App
from qcore.brokers.contract.diagnosis import ServerFacts
from qctl.dashboard.sources.broker_facts import LEAST_TRIPS, BrokerFacts
from tests.qctl.cli.test_command_line import qctl

MIB = 1 << 20


def test_what_a_server_does_not_say_has_no_line() -> None:
    assert BrokerFacts().look(ServerFacts(), None, 0.0) == {"answers in": "-"}


def test_memory_that_grows_says_when_it_is_full() -> None:
    facts = BrokerFacts()
    facts.look(ServerFacts(memory=100 * MIB, memory_most=400 * MIB), None, 0.0)

    soon = facts.look(ServerFacts(memory=200 * MIB, memory_most=400 * MIB), None, 30.0)
    later = facts.look(ServerFacts(memory=200 * MIB, memory_most=400 * MIB), None, 600.0)

    assert soon["memory"] == "200 MiB of 400 MiB, 50 %"
    assert later["memory"] == "200 MiB of 400 MiB, 50 % · full in 20m00s at this slope"


def test_old_looks_are_forgotten() -> None:
    facts = BrokerFacts()
    facts.look(ServerFacts(memory=MIB, memory_most=400 * MIB), None, 0.0)
    facts.look(ServerFacts(memory=200 * MIB, memory_most=400 * MIB), None, 1000.0)

    found = facts.look(ServerFacts(memory=200 * MIB, memory_most=400 * MIB), None, 1100.0)

    assert "full" not in found["memory"]


def test_commands_are_a_rate_between_two_looks_and_unknown_after_a_restart() -> None:
    facts = BrokerFacts()

    first, second, restarted = (
        facts.look(ServerFacts(commands=count), None, at)
        for count, at in ((1000, 0.0), (7000, 2.0), (10, 4.0))
    )

    assert "load" not in first and "load" not in restarted
    assert second["load"] == "3,000 commands/s"


def test_response_times_get_percentiles_when_there_are_enough() -> None:
    facts = BrokerFacts()
    for number in range(LEAST_TRIPS - 1):
        few = facts.look(ServerFacts(), 0.001, float(number))

    many = facts.look(ServerFacts(), 0.002, 30.0)

    assert few["answers in"] == "1.0 ms"
    assert many["answers in"].startswith("2.0 ms · p50 1.0 p95 1.1 p99 1.8 ms in 30s")
    assert many["answers in"].endswith(" · slowest 2.0 ms, 0.0s ago")


def test_a_redis_tells_its_version_memory_clients_and_storage(redis_url: str) -> None:
    app = App("facts", broker=redis_url, set_as_current=False)
    server = app.broker.diagnosis.server()
    app.close()

    assert server.software.split()[0] in ("redis", "valkey") and server.role == "primary"
    assert server.memory and server.memory_most == 0 and server.clients and server.commands
    assert server.storage


def test_the_screen_shows_the_facts_of_a_file(tmp_path: Path) -> None:
    done = qctl("-b", f"sqlite:///{tmp_path}/q.db", "events", "--once", "--view", "broker")

    assert "SQLite" in done.stdout and "of write-ahead log" in done.stdout, done.stdout + done.stderr


def test_keys_evictions_and_traffic_are_told_and_what_is_charted_are_numbers() -> None:
    facts = BrokerFacts()
    server = ServerFacts(
        memory=2 * MIB,
        memory_most=0,
        keys=1_200,
        evicted=3,
        clients=5,
        receives=2 * MIB,
        sends=512,
        refused=0,
    )

    found = facts.look(server, 0.002, 0.0)

    assert found["memory"] == "2.0 MiB without a limit · 1,200 keys · 3 evicted"
    assert found["load"] == "5 clients · 2.0 MiB/s in, 512 B/s out · 0 connections refused"
    assert facts.numbers == {"answers": 2.0, "memory": 2.0, "clients": 5, "commands": None}
