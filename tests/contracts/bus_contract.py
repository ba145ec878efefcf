"""The part of the broker suite about the bus: broadcast, replies, members, revoked ids."""

from __future__ import annotations

import threading
import time

from qcore.brokers.base import Broker
from qcore.control.authorization import Authorizer
from qcore.settings.config import Config
from qcore.wire import control as wire
from qcore.wire import seal
from tests.contracts.consuming import Open, message, needs, text_of
from tests.support.waiting import wait_for


class BusContract:
    def test_everybody_who_listens_hears(self, opened: Open, queue: str) -> None:
        needs(opened(), "fanout")
        exchange = f"{queue}.pidbox"
        ears = [opened().subscribe(exchange, node=f"w{i}@host") for i in range(3)]

        heard_by = opened().broadcast(exchange, "", message("hello"))

        assert [text_of(ear.get(60) or b"") for ear in ears] == ["hello"] * 3
        assert heard_by == (3 if opened().features.receivers_known else None)
        for ear in ears:
            ear.close()

    def test_a_signed_request_arrives_as_it_was_signed(self, opened: Open, queue: str) -> None:
        needs(opened(), "fanout")
        guard = Authorizer(Config({"control_keys": {"k": {"secret": "x" * 20, "scope": "admin"}}}))
        ear = opened().subscribe(f"{queue}.pidbox", node="w@host")

        def sealer(body: bytes, whom: str) -> str:
            return seal.make("k", b"x" * 20, queue, time.time(), time.time() + 60, whom, body).text()

        request = wire.Request("shutdown", {"ünï": [1, 2.5, None]}, ["w@host"], reply_key="r")
        opened().broadcast(f"{queue}.pidbox", "", wire.encode_request(request, sealer))
        found = wire.decode_request(ear.get(60) or b"")
        ear.close()

        assert found.arguments == request.arguments
        assert guard.refusal(found, "admin") is None

    def test_nobody_hears_what_is_said_before_or_after(self, opened: Open, queue: str) -> None:
        broker = opened()
        needs(broker, "fanout")
        broker.broadcast(queue, "", message("early"))
        ear = opened().subscribe(queue)
        broker.broadcast(queue, "", message("now"))

        assert text_of(ear.get(60) or b"") == "now"
        assert ear.get(0.05) is None
        assert ear.get(0) is None
        ear.close()

        late = broker.broadcast(queue, "", message("late"))
        assert late in (0, None)

    def test_patterns_choose(self, opened: Open, queue: str) -> None:
        broker = opened()
        needs(broker, "fanout")
        everything, workers = broker.subscribe(queue, "#"), broker.subscribe(queue, "worker.#")

        for key in ("task.sent", "worker.online", "task.multi"):
            broker.broadcast(queue, key, message(key))

        assert [text_of(everything.get(60) or b"") for _ in range(3)] == [
            "task.sent",
            "worker.online",
            "task.multi",
        ]
        assert text_of(workers.get(60) or b"") == "worker.online"
        assert workers.get(0.05) is None
        everything.close()
        workers.close()

    def test_a_waiting_ear_is_woken(self, opened: Open, queue: str) -> None:
        broker = opened()
        needs(broker, "fanout")
        ear = opened().subscribe(queue)
        threading.Timer(0.1, broker.broadcast, (queue, "", message("x"))).start()
        began = time.monotonic()

        assert text_of(ear.get(100) or b"") == "x"
        assert time.monotonic() - began < 50
        ear.close()

    def test_many_messages_arrive_in_order(self, opened: Open, queue: str) -> None:
        broker = opened()
        needs(broker, "fanout")
        ear = opened().subscribe(queue, "#")

        for i in range(100):
            broker.broadcast(queue, "task.x", message(str(i)))

        assert [text_of(ear.get(60) or b"") for _ in range(100)] == [str(i) for i in range(100)]
        ear.close()

    def test_replies_reach_the_inbox_they_are_for(self, opened: Open, queue: str) -> None:
        asker, worker = opened(), opened()
        exchange = f"reply.{queue}.pidbox"
        mine, other = asker.inbox(exchange, queue), asker.inbox(exchange, queue + "-other")

        assert mine.key == queue
        assert mine.get(0.05) is None
        for name in ("one", "two"):
            worker.reply(exchange, queue, message(name))

        assert [text_of(mine.get(60) or b"") for _ in range(2)] == ["one", "two"]
        assert mine.get(0.05) is None and other.get(0.05) is None
        mine.close()
        other.close()

    def test_a_waiting_inbox_is_woken(self, opened: Open, queue: str) -> None:
        exchange = f"reply.{queue}.pidbox"
        box, worker = opened().inbox(exchange, queue), opened()
        worker.check()
        threading.Timer(0.1, worker.reply, (exchange, queue, message("x"))).start()
        began = time.monotonic()

        assert text_of(box.get(100) or b"") == "x"
        assert time.monotonic() - began < 50
        box.close()

    def test_a_reply_to_nobody_is_dropped(self, opened: Open, queue: str) -> None:
        exchange = f"reply.{queue}.pidbox"
        box = opened().inbox(exchange, queue)
        box.close()

        opened().reply(exchange, queue, message("late"))

        again = opened().inbox(exchange, queue)
        assert again.get(0.1) is None
        again.close()

    def test_members_announce_expire_and_retire(self, opened: Open, queue: str) -> None:
        broker = opened()
        if not broker.features.members_known:
            assert broker.members() == []
            return
        broker.announce(f"a@{queue}", {"pid": 1, "queues": ["x"]}, 60)
        broker.announce(f"b@{queue}", {"pid": 2}, 0.2)

        def mine() -> dict[str, tuple[bool, int]]:
            return {
                m.node: (m.alive, m.info["pid"]) for m in opened().members() if m.node.endswith(f"@{queue}")
            }

        assert mine()[f"a@{queue}"] == (True, 1)
        wait_for(lambda: mine() == {f"a@{queue}": (True, 1), f"b@{queue}": (False, 2)})
        assert all(abs(m.seen_at - time.time()) < 60 for m in broker.members())
        broker.announce(f"b@{queue}", {"pid": 3}, 60)
        assert mine()[f"b@{queue}"] == (True, 3)

        broker.retire(f"a@{queue}")

        assert mine() == {f"b@{queue}": (True, 3)}

    def test_an_announcement_says_what_it_replaced(self, broker: Broker, queue: str) -> None:
        if not broker.features.members_replaced:
            assert broker.announce(f"a@{queue}", {"instance": "1"}, 60) is None
            return

        first = broker.announce(f"a@{queue}", {"instance": "1"}, 60)
        second = broker.announce(f"a@{queue}", {"instance": "2"}, 60)

        assert first is None
        assert second == {"instance": "1"}

    def test_many_replies_are_taken_at_once_and_in_order(self, opened: Open, queue: str) -> None:
        exchange = f"reply.{queue}.pidbox"
        box, worker = opened().inbox(exchange, queue), opened()
        for i in range(40):
            worker.reply(exchange, queue, message(str(i)))

        found: list[bytes] = []
        while len(found) < 40 and (more := box.take(5)):
            found += more

        assert [text_of(raw) for raw in found] == [str(i) for i in range(40)]
        assert box.take(0.05) == []
        box.close()

    def test_our_own_workers_are_not_foreign(self, broker: Broker, queue: str) -> None:
        broker.announce(f"a@{queue}", {}, 60)
        ear = broker.subscribe("celery.pidbox", node=f"a@{queue}")

        assert f"a@{queue}" not in broker.foreign_members()
        ear.close()

    def test_revoked_ids_can_be_asked_for_one_by_one(self, opened: Open, queue: str) -> None:
        broker = opened()
        if not broker.features.revoked_lookup:
            return
        broker.revoke([f"{queue}-1", f"{queue}-'\"*"], 60)
        broker.revoke([f"{queue}-2"], 0.001)
        wait_for(lambda: f"{queue}-2" not in broker.revoked())

        found = opened().revoked_among([f"{queue}-{end}" for end in ("1", "2", "3", "'\"*")])

        assert found == {f"{queue}-1", f"{queue}-'\"*"}
        assert broker.revoked_among([]) == set()

    def test_revoked_ids_are_remembered_for_a_time(self, opened: Open, queue: str) -> None:
        broker = opened()
        broker.revoke([f"{queue}-1"], 60)
        broker.revoke([f"{queue}-2", f"{queue}-3"], 0.2)
        if not broker.features.revokes:
            assert broker.revoked() == []
            return

        assert f"{queue}-1" in opened().revoked()
        wait_for(lambda: [i for i in broker.revoked() if i.startswith(queue)] == [f"{queue}-1"])

    def test_newer_revokes_come_first(self, broker: Broker, queue: str) -> None:
        needs(broker, "revokes")
        for i in range(3):
            broker.revoke([f"{queue}-{i}"])
            time.sleep(0.002)

        assert [i for i in broker.revoked(2) if i.startswith(queue)] == [f"{queue}-2", f"{queue}-1"]
