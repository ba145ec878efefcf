"""What the broker and result suites share: open brokers, take messages as a worker does."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from qcore.base.times import new_id
from qcore.brokers.base import Broker
from qcore.brokers.contract.consumer import Consumer
from qcore.brokers.contract.records import Delivery, Message, Settle, Settlement, confirm_within_s
from qcore.brokers.registry import open_broker
from qcore.wire import envelope

Open = Callable[..., Broker]


@pytest.fixture
def opened(broker_url: str) -> Iterator[Open]:
    """Opens brokers at the URL under test, with options, and closes them all."""
    brokers: list[Broker] = []

    def open_one(**options: Any) -> Broker:
        brokers.append(open_broker(broker_url, options))
        return brokers[-1]

    yield open_one
    for broker in brokers:
        broker.close()


@pytest.fixture
def broker(opened: Open) -> Broker:
    return opened()


@pytest.fixture
def queue() -> str:
    return f"q-{new_id()[:8]}"


def message(text: str) -> bytes:
    """A message in envelope form, as every driver can carry."""
    return envelope.wrap(
        f'[["{text}"], {{}}, {{}}]'.encode(), exchange="", routing_key="q", headers={"id": text}
    )


def text_of(raw: bytes) -> str:
    found = envelope.decode(raw).headers["id"]
    assert isinstance(found, str)
    return found


def texts(deliveries: Sequence[Delivery]) -> list[str]:
    return [text_of(d.raw) for d in deliveries]


def put(broker: Broker, queue: str, *names: str, **more: Any) -> None:
    broker.publish([Message(message(name), queue=queue, **more) for name in names])


@contextmanager
def confirms_within(seconds: float) -> Iterator[None]:
    """A publish that is not confirmed so long fails, whatever the option of its broker says."""
    token = confirm_within_s.set(seconds)
    try:
        yield
    finally:
        confirm_within_s.reset(token)


#: what waking brought, until take() or nothing_for() looks
_brought: WeakKeyDictionary[Consumer, list[Delivery]] = WeakKeyDictionary()


def wait_woken(consumer: Consumer, timeout_s: float) -> bool:
    """As a worker's loop: arm, sleep until woken or idle_s(); whether a descriptor woke us."""
    consumer.arm()
    ready, _, _ = select.select(consumer.fds(), [], [], max(0.0, min(timeout_s, consumer.idle_s())))
    for fd in ready:
        _brought.setdefault(consumer, []).extend(consumer.wake(fd))
    return bool(ready)


def claim(consumer: Consumer, limit: int) -> list[Delivery]:
    """What waking brought, and then up to `limit` more."""
    return _brought.pop(consumer, []) or list(consumer.claim(limit))


def take(consumer: Consumer, count: int, timeout_s: float = 60.0) -> list[Delivery]:
    """Exactly `count` deliveries."""
    found: list[Delivery] = []
    until = time.monotonic() + timeout_s
    while len(found) < count:
        got = claim(consumer, count - len(found))
        found += got
        if not got:
            assert time.monotonic() < until, f"{len(found)} of {count} messages after {timeout_s} s"
            wait_woken(consumer, 0.2)
    return found


def nothing_for(consumer: Consumer, seconds: float = 0.15) -> None:
    """Nothing can be claimed for a while."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert texts(claim(consumer, 10)) == []
        wait_woken(consumer, 0.05)


def end(consumer: Consumer, *deliveries: Delivery, action: Settle = Settle.ACK, **more: Any) -> list[int]:
    return consumer.settle([Settlement(d, action, **more) for d in deliveries])


def needs(broker: Broker, *features: str) -> None:
    """Skip when the driver declares that it lacks one of these."""
    for feature in features:
        if not getattr(broker.features, feature):
            pytest.skip(f"the {broker.name} broker has no {feature}")
