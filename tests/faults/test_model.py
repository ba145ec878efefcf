"""Random histories of a broker against a model of it: every message is in exactly one place.

Three consumers publish, claim, settle in every way (late and twice too), renew, lose their leases,
die and leave; after each step the broker must hold what the model says, where it says.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from qcore.brokers.base import Broker, Consumer, Delivery, Message, Settle, Settlement, open_broker
from qcore.times import new_id
from tests.faults import size
from tests.redis_server import RedisServer
from tests.suites.consuming import message, text_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CONSUMERS = range(3)
FAR_S, LEASE_S = 10_000.0, 1000.0
#: what may happen, the usual more often
STEPS = (
    "publish publish claim claim claim claim settle settle settle settle_anything_ever_given "
    "renew lose_the_lease lose_the_lease reap reap die leave purge"
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
    forget: Callable[[Consumer], None]

    def __init__(self) -> None:
        super().__init__()
        self.broker = type(self).open()
        self.queue = f"q-{new_id()[:8]}"
        self.sides = [self._side() for _ in CONSUMERS]
        self.ghosts: list[Side] = []
        self.owners: list[Owner] = [side.owner for side in self.sides]
        self.place: dict[str, str | Owner] = {}
        self.crashes: dict[str, int] = {}
        self.given: list[Given] = []

    @rule(data=st.data(), what=st.sampled_from(STEPS), who=st.sampled_from(CONSUMERS))
    def step(self, data: st.DataObject, what: str, who: int) -> None:
        """One rule, not ten: Hypothesis leaves out whole rules at random, and then little happens."""
        getattr(self, what)(data.draw, who)

    def _side(self) -> Side:
        return Side(self.broker.consumer([self.queue]))

    def _fresh(self, place: str) -> str:
        name = f"m{len(self.place)}"
        self.place[name], self.crashes[name] = place, 0
        return name

    def _at(self, *places: str) -> set[str]:
        return {name for name, place in self.place.items() if place in places}

    # --- publishing

    def publish(self, draw: Draw, who: int) -> None:
        count, when = draw(st.integers(1, 4)), draw(st.sampled_from([READY, READY, DUE, DELAYED]))
        due = {READY: None, DUE: time.time() - 1, DELAYED: time.time() + FAR_S}[when]
        names = [self._fresh(when) for _ in range(count)]
        self.broker.publish([Message(message(name), queue=self.queue, due_at=due) for name in names])

    def purge(self, draw: Draw, who: int) -> None:
        gone = self._at(READY, DUE, DELAYED)

        assert self.broker.purge(self.queue) == len(gone)

        self.place.update(dict.fromkeys(gone, GONE))

    # --- claiming

    def claim(self, draw: Draw, who: int) -> None:
        side, waiting, limit = self.sides[who], self._at(READY, DUE), draw(st.integers(1, 5))

        found = side.real.claim(limit)

        if not side.owner.alive:
            self._renamed(side)
        for name in self._at(DUE):
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
        action, follow = draw(st.sampled_from(list(Settle))), draw(st.booleans())
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
            assert self._fresh(READY) == follower

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
        ready = [text_of(raw) for raw in self.broker.peek(self.queue, 1000)]
        delayed = [text_of(raw) for _, raw in self.broker.delayed(self.queue, 1000)]
        aside = [text_of(found.raw) for found in self.broker.quarantined(1000)]
        depth = self.broker.depth(self.queue)

        assert len({*ready, *delayed, *aside}) == len(ready) + len(delayed) + len(aside), "in two places"
        assert set(ready) == self._at(READY)
        assert set(delayed) == self._at(DUE, DELAYED)
        assert set(aside) == self._at(ASIDE)
        assert depth.in_flight == sum(len(owner.held) for owner in self.owners)
        assert (depth.ready, depth.delayed) == (len(ready), len(delayed))

    def teardown(self) -> None:
        for ghost in self.ghosts:
            type(self).forget(ghost.real)
        for side in self.sides:
            side.real.close()
        self.broker.close()


def check(
    open_it: Callable[[], Broker], expire: Callable[[Any], None], forget: Callable[[Any], None], examples: int
) -> None:
    machine = type(
        "Machine",
        (BrokerMachine,),
        {"open": staticmethod(open_it), "expire": staticmethod(expire), "forget": staticmethod(forget)},
    )
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_memory_broker_follows_the_model() -> None:
    def expire(consumer: Any) -> None:
        consumer._owner.lease_until = 0.0

    options = {"lease_s": LEASE_S}
    check(
        lambda: open_broker(f"memory://{new_id()}", options),
        expire,
        lambda consumer: consumer.close(),
        size(150, 2000),
    )


def test_the_sqlite_broker_follows_the_model(tmp_path: Path) -> None:
    def expire(consumer: Any) -> None:
        sql, owner = "UPDATE owners SET lease_until=0 WHERE id=?", consumer._owner
        consumer._file.in_transaction(lambda db: db.execute(sql, (owner,)), durable=False)

    def open_it() -> Broker:
        return open_broker(f"sqlite:///{tmp_path}/{new_id()}.sqlite3", {"lease_s": LEASE_S})

    check(open_it, expire, lambda consumer: consumer.close(), size(70, 1000))


def test_the_redis_broker_follows_the_model(redis_server: RedisServer, redis_url: str) -> None:
    client = redis_server.client()

    def expire(consumer: Any) -> None:
        assert client.delete(consumer._owner.lease) == 1

    def open_it() -> Broker:
        client.flushdb()
        return open_broker(redis_url, {"lease_s": LEASE_S})

    check(open_it, expire, lambda consumer: consumer.after_fork(), size(70, 1000))
    client.close()
