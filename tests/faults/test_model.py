"""Random histories of a broker against a model of it: every message is in exactly one place.

Consumers of two queues publish, claim, settle in every way (late and twice too), renew, lose their
leases, die and leave; operators purge, pause, move, drop and replay. After each step the broker must hold
what the model says, where it says. Once with three consumers and whatever they publish, once with eight
that contend for three messages.

That the model would notice is tried as well: scripts of the Redis broker with a planted fault each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from qcore.base.times import new_id
from qcore.brokers.base import Broker
from qcore.brokers.contract.consumer import Consumer
from qcore.brokers.contract.records import Delivery, Message, Settle, Settlement
from qcore.brokers.redis import consumer
from qcore.brokers.redis.scripts import Script
from qcore.brokers.registry import open_broker
from tests.contracts.consuming import message, text_of
from tests.faults import size
from tests.support.redis_server import RedisServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FAR_S, LEASE_S = 10_000.0, 1000.0
#: what may happen, the usual more often
STEPS = (
    "publish publish claim claim claim claim settle settle settle settle_anything_ever_given "
    "renew lose_the_lease lose_the_lease reap reap die leave purge "
    "pause resume resume move move drop replay replay forget"
).split()
READY, DUE, DELAYED, GONE, ASIDE = "ready", "due", "delayed", "gone", "aside"


Draw = Callable[[Any], Any]


class Owner:
    """The model of one owner of deliveries; a consumer that loses its lease goes on as another."""

    def __init__(self) -> None:
        self.alive = True
        self.held: set[str] = set()


class Side:
    """One consumer: the real one, and what the model knows of it."""

    def __init__(self, real: Consumer) -> None:
        self.real, self.owner, self.lost = real, Owner(), False


class Given(tuple[Side, Owner, Delivery, str]):
    """A delivery that was handed out at some time: to whom, and of which message."""


class BrokerMachine(RuleBasedStateMachine):
    open: Callable[[], Broker]
    expire: Callable[[Consumer], None]
    abandon: Callable[[Consumer], None]
    consumers: int
    most: int  # messages that are somewhere, at once

    def __init__(self) -> None:
        super().__init__()
        self.broker = type(self).open()
        self.queue = f"q-{new_id()[:8]}"
        self.queues = [self.queue, self.queue + "-2"]
        self.off: set[str] = set()
        self.queue_of: dict[str, str] = {}
        self.sides = [self._side() for _ in range(self.consumers)]
        self.ghosts: list[Side] = []
        self.owners: list[Owner] = [side.owner for side in self.sides]
        self.place: dict[str, str | Owner] = {}
        self.crashes: dict[str, int] = {}
        self.given: list[Given] = []

    @rule(data=st.data(), what=st.sampled_from(STEPS), who=st.integers(0, 7))
    def step(self, data: st.DataObject, what: str, who: int) -> None:
        """One rule, not ten: Hypothesis leaves out whole rules at random, and then little happens."""
        getattr(self, what)(data.draw, who % self.consumers)

    def _side(self) -> Side:
        return Side(self.broker.consumer(self.queues))

    def _fresh(self, place: str, queue: str) -> str:
        name = f"m{len(self.place)}"
        self.place[name], self.crashes[name], self.queue_of[name] = place, 0, queue
        return name

    def _at(self, *places: str) -> set[str]:
        return {name for name, place in self.place.items() if place in places}

    def _waiting(self, queue: str) -> set[str]:
        return {name for name in self._at(READY, DUE, DELAYED) if self.queue_of[name] == queue}

    def _room(self) -> int:
        return self.most - sum(place != GONE for place in self.place.values())

    # --- publishing

    def publish(self, draw: Draw, who: int) -> None:
        count, when = draw(st.integers(1, 4)), draw(st.sampled_from([READY, READY, DUE, DELAYED]))
        queue, count = draw(st.sampled_from(self.queues)), min(count, self._room())
        due = {READY: None, DUE: time.time() - 1, DELAYED: time.time() + FAR_S}[when]
        names = [self._fresh(when, queue) for _ in range(count)]
        self.broker.publish([Message(message(name), queue=queue, due_at=due) for name in names])

    def purge(self, draw: Draw, who: int) -> None:
        gone = self._waiting(self.queue)

        assert self.broker.administration.purge(self.queue) == len(gone)

        self.place.update(dict.fromkeys(gone, GONE))

    # --- what operators do

    def pause(self, draw: Draw, who: int) -> None:
        queue = draw(st.sampled_from(self.queues))
        self.off.add(queue)

        self.broker.administration.pause(queue)

        assert set(self.broker.administration.paused()) == self.off

    def resume(self, draw: Draw, who: int) -> None:
        queue = draw(st.sampled_from(self.queues))
        self.off.discard(queue)

        self.broker.administration.resume(queue)

        assert set(self.broker.administration.paused()) == self.off

    def move(self, draw: Draw, who: int) -> None:
        source, target = draw(st.permutations(self.queues))
        there, limit = self._waiting(source), draw(st.sampled_from([None, 1, 2]))
        ids = draw(st.sampled_from([None, "some"])) and self._some(draw)
        wanted = there if ids is None else there & set(ids)

        count = self.broker.administration.move(source, target, limit, ids)

        assert count == min(len(wanted), len(wanted) if limit is None else limit)
        left = self._seen(source)
        moved = there - left
        assert len(moved) == count and moved <= wanted
        self.queue_of.update(dict.fromkeys(moved, target))

    def _some(self, draw: Draw) -> list[str]:
        """Names of some messages, wherever they are."""
        return draw(st.lists(st.sampled_from(sorted(self.place) or ["nobody"]), max_size=3, unique=True))

    def _seen(self, queue: str) -> set[str]:
        """What the broker says is waiting in a queue."""
        held = [raw for _, raw in self.broker.administration.delayed(queue, 1000)]
        return {text_of(raw) for raw in [*self.broker.administration.peek(queue, 1000), *held]}

    def drop(self, draw: Draw, who: int) -> None:
        names = self._some(draw)
        gone = self._waiting(self.queue) & set(names)

        assert self.broker.administration.drop(self.queue, names) == len(gone)

        self.place.update(dict.fromkeys(gone, GONE))

    def replay(self, draw: Draw, who: int) -> None:
        if found := self.broker.administration.quarantined(1000):
            entry = found[draw(st.integers(0, len(found) - 1))]
            name = text_of(entry.raw)

            assert self.broker.administration.replay(entry.id)

            assert self.place[name] == ASIDE and entry.queue == self.queue_of[name]
            self.place[name], self.crashes[name] = READY, 0

    def forget(self, draw: Draw, who: int) -> None:
        if found := self.broker.administration.quarantined(1000):
            entry = found[draw(st.integers(0, len(found) - 1))]

            assert self.broker.administration.forget(entry.id)

            self.place[text_of(entry.raw)] = GONE

    # --- claiming

    def claim(self, draw: Draw, who: int) -> None:
        side, limit = self.sides[who], draw(st.integers(1, 5))
        waiting = {name for name in self._at(READY, DUE) if self.queue_of[name] not in self.off}

        found = side.real.claim(limit)

        if not side.owner.alive:
            self._renamed(side)
        for name in self._at(DUE) & waiting:
            self.place[name] = READY
        assert len(found) == min(limit, len(waiting))
        for delivery in found:
            name = text_of(delivery.raw)
            assert name in waiting, f"{name} was {self.place[name]}"
            waiting.discard(name)
            assert delivery.deliveries == self.crashes[name] + 1
            assert delivery.redelivered == (self.crashes[name] > 0)
            self.place[name] = side.owner
            side.owner.held.add(name)
            self.given.append(Given((side, side.owner, delivery, name)))

    def _renamed(self, side: Side) -> None:
        side.owner, side.lost = Owner(), True
        self.owners.append(side.owner)

    # --- settling

    def _settle(self, draw: Draw, candidates: list[Given]) -> None:
        side, owner, delivery, name = candidates[draw(st.integers(0, len(candidates) - 1))]
        action, follow = draw(st.sampled_from(list(Settle))), draw(st.booleans()) and self._room() > 0
        due = draw(st.sampled_from([DUE, DELAYED]))
        ours = self.place[name] is owner and side.owner is owner and self._is_latest(owner, delivery, name)
        follower = f"m{len(self.place)}"
        sends = (Message(message(follower), queue=self.queue),) if follow else ()
        when = time.time() + (FAR_S if due == DELAYED else -1)

        refused = side.real.settle([Settlement(delivery, action, sends=sends, due_at=when, reason="x")])

        assert refused == ([] if ours else [delivery.number])
        if not ours:
            return
        owner.held.discard(name)
        self.crashes[name] += action == Settle.RETURN
        self.place[name] = {Settle.ACK: GONE, Settle.QUARANTINE: ASIDE, Settle.DELAY: due}.get(action, READY)
        if follow:
            assert self._fresh(READY, self.queue) == follower

    def _is_latest(self, owner: Owner, delivery: Delivery, name: str) -> bool:
        mine = [d.number for _, o, d, n in self.given if o is owner and n == name]
        return max(mine) == delivery.number

    def settle(self, draw: Draw, who: int) -> None:
        held = [g for g in self.given if self.place[g[3]] is g[1]]
        if held:
            self._settle(draw, held)

    def settle_anything_ever_given(self, draw: Draw, who: int) -> None:
        if self.given:
            self._settle(draw, self.given)

    # --- leases, deaths, ends

    def renew(self, draw: Draw, who: int) -> None:
        side = self.sides[who]
        if not side.owner.alive:
            self._renamed(side)

        assert side.real.renew() is not side.lost

        side.lost = False

    def lose_the_lease(self, draw: Draw, who: int) -> None:
        side = self.sides[who]
        if side.owner.alive:
            type(self).expire(side.real)
            side.owner.alive = False

    def die(self, draw: Draw, who: int) -> None:
        """Another takes its place; it may come to life again and settle what it held."""
        self.lose_the_lease(draw, who)
        self.ghosts.append(self.sides[who])
        self.sides[who] = self._side()
        self.owners.append(self.sides[who].owner)

    def leave(self, draw: Draw, who: int) -> None:
        side = self.sides[who]

        side.real.close()

        for name in side.owner.held:
            self.place[name] = READY
        side.owner.held.clear()
        self.given = [g for g in self.given if g[0] is not side]
        self.sides[who] = self._side()
        self.owners.append(self.sides[who].owner)

    def reap(self, draw: Draw, who: int) -> None:
        orphans = {name for owner in self.owners if not owner.alive for name in owner.held}

        assert self.sides[who].real.reap() == len(orphans)

        for owner in self.owners:
            if not owner.alive:
                owner.held.clear()
        for name in orphans:
            self.place[name] = READY
            self.crashes[name] += 1

    # --- what must hold

    @invariant()
    def every_message_is_where_it_should_be(self) -> None:
        aside = [text_of(found.raw) for found in self.broker.administration.quarantined(1000)]
        seen, in_flight = set(aside), 0
        assert seen == self._at(ASIDE) and len(seen) == len(aside)
        for queue in self.queues:
            ready = [text_of(raw) for raw in self.broker.administration.peek(queue, 1000)]
            delayed = [text_of(raw) for _, raw in self.broker.administration.delayed(queue, 1000)]
            depth = self.broker.administration.depth(queue)
            in_flight += depth.in_flight or 0

            here = {*ready, *delayed}
            assert len(here) == len(ready) + len(delayed) and not here & seen, "in two places"
            seen |= here
            assert here == self._waiting(queue)
            assert set(ready) == here & self._at(READY)
            assert (depth.ready, depth.delayed) == (len(ready), len(delayed))
        held = sum(len(owner.held) for owner in self.owners)
        assert in_flight == held
        assert len(seen) + held == sum(place != GONE for place in self.place.values())

    def teardown(self) -> None:
        for ghost in self.ghosts:
            type(self).abandon(ghost.real)
        for side in self.sides:
            side.real.close()
        self.broker.close()


class Kind(NamedTuple):
    """One broker: how to open an empty one, end a lease, and get rid of a consumer that is dead."""

    open: Callable[[], Broker]
    expire: Callable[[Any], None]
    abandon: Callable[[Any], None]


def check(kind: Kind, examples: int, consumers: int = 3, most: int = 1000, shrink: bool = True) -> None:
    facts = {name: staticmethod(value) for name, value in kind._asdict().items()}
    machine = type("Machine", (BrokerMachine,), {**facts, "consumers": consumers, "most": most})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture
def memory() -> Kind:
    def expire(consumer: Any) -> None:
        consumer._owner.lease_until = 0.0

    options = {"lease_s": LEASE_S}
    return Kind(lambda: open_broker(f"memory://{new_id()}", options), expire, lambda one: one.close())


@pytest.fixture
def sqlite(tmp_path: Path) -> Kind:
    def expire(consumer: Any) -> None:
        sql, owner = "UPDATE owners SET lease_until=0 WHERE id=?", consumer._owner
        consumer._file.in_transaction(lambda db: db.execute(sql, (owner,)), durable=False)

    def open_it() -> Broker:
        return open_broker(f"sqlite:///{tmp_path}/{new_id()}.sqlite3", {"lease_s": LEASE_S})

    return Kind(open_it, expire, lambda one: one.close())


@pytest.fixture
def redis(redis_server: RedisServer, redis_url: str) -> Iterator[Kind]:
    client = redis_server.client()

    def expire(consumer: Any) -> None:
        assert client.delete(consumer._owner.lease) == 1

    def open_it() -> Broker:
        client.flushdb()
        return open_broker(redis_url, {"lease_s": LEASE_S})

    yield Kind(open_it, expire, lambda one: one.after_fork())
    client.close()


def test_the_memory_broker_follows_the_model(memory: Kind) -> None:
    check(memory, size(75, 2000))


def test_the_sqlite_broker_follows_the_model(sqlite: Kind) -> None:
    check(sqlite, size(20, 1000))


def test_the_redis_broker_follows_the_model(redis: Kind) -> None:
    check(redis, size(25, 1000))


def test_eight_that_contend_for_three_messages_follow_the_model_in_memory(memory: Kind) -> None:
    check(memory, size(25, 2000), consumers=8, most=3)


def test_eight_that_contend_for_three_messages_follow_the_model_on_sqlite(sqlite: Kind) -> None:
    check(sqlite, size(20, 2000), consumers=8, most=3)


def test_eight_that_contend_for_three_messages_follow_the_model_on_redis(redis: Kind) -> None:
    check(redis, size(25, 2000), consumers=8, most=3)


PLANTED = {
    "drops a requeue": (
        "SETTLE",
        "call('RPUSH', list, how == 't' and mark(raw) or raw)",
        "if how == 't' then call('RPUSH', list, mark(raw)) end",
    ),
    "gives a message twice": (
        "CLAIM",
        "local got = redis.call('RPOP', KEYS[i], most)",
        "local got = redis.call('RPOP', KEYS[i], most); if got then redis.call('RPUSH', KEYS[i], got[1]) end",
    ),
    "skips the fence": (
        "SETTLE",
        "if call('HDEL', ledger, field) == 0 then refused[#refused+1] = field end",
        "call('HDEL', ledger, field)",
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_the_model_finds_a_script_that(fault: str, redis: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    name, right, wrong = PLANTED[fault]
    text = getattr(consumer, name).text
    assert text.count(right) == 1
    monkeypatch.setattr(consumer, name, Script(text.replace(right, wrong)))

    with pytest.raises(AssertionError):
        check(redis, size(25, 100), consumers=8, most=3, shrink=False)
