"""A Redis cluster of three primaries and one replica: real processes on free loopback ports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from qcore.brokers.redis.topology.cluster import DEFAULT_PREFIX, SLOTS, slot_of
from tests.support.redis_server import RedisServer, free_port, require_server
from tests.support.waiting import wait_for

NODE_TIMEOUT_MS = 1000
SLOT = slot_of(DEFAULT_PREFIX)


class ClusterNode(RedisServer):
    """One node, which knows of no other at first."""

    def start(self) -> None:
        command = [self.binary, *self._ports(), "--bind", "127.0.0.1", "--dir", self.dir]
        if not self.options:
            # By itself the second port is 10,000 higher, and that may be none.
            self.options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
        timing = ("--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--repl-diskless-sync-delay", "0")
        timing += ("--repl-ping-replica-period", "1")  # a replica that has received nothing is not listed
        self.launch([*command, "--save", "", "--appendonly", "no", *self.options, *timing])
        self.id = self.command("MYID").decode()

    def command(self, *words: Any) -> Any:
        """The reply to CLUSTER …, as the server sends it."""
        with self.client() as client:
            client.response_callbacks.clear()
            return client.execute_command("CLUSTER", *words)

    def role(self) -> str:
        """`master` or `slave`; '' while it does not answer."""
        try:
            with self.client() as client:
                return str(client.info("replication")["role"])
        except redis.RedisError:
            return ""


class RealCluster:
    """The slots are divided evenly between the primaries; the replica is that of the slot of the fleet."""

    def __init__(self) -> None:
        binary = require_server()
        self.nodes = [ClusterNode(binary) for _ in range(4)]
        bounds = [SLOTS * part // 3 for part in range(4)]
        for number, node in enumerate(self.nodes):
            node.command("SET-CONFIG-EPOCH", number + 1)
            if number < 3:
                node.command("ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
            for other in self.nodes[:number]:
                node.command("MEET", "127.0.0.1", other.port, other.options[3])
        wait_for(lambda: all(self._agrees(node) for node in self.nodes), 60, "the nodes know each other")
        self.follow()

    def _agrees(self, node: ClusterNode) -> bool:
        text = node.command("INFO").decode()
        return "cluster_state:ok" in text and "cluster_known_nodes:4" in text

    @property
    def url(self) -> str:
        """Two nodes, neither of which owns the slot of the fleet at first."""
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port},127.0.0.1:{self.nodes[2].port}/0"

    @property
    def single_url(self) -> str:
        """The owner alone, as clients without a notion of clusters see it."""
        return self.owner().url

    def owner(self) -> ClusterNode:
        """The primary with the slot of the fleet, as those that live agree."""

        def find() -> ClusterNode | None:
            named = set()
            for node in self.nodes:
                if node.role():
                    ranges = node.command("SLOTS")
                    named |= {int(r[2][1]) for r in ranges if r[0] <= SLOT <= r[1]}
            found = [node for node in self.nodes if {node.port} == named and node.role() == "master"]
            return found[0] if found else None

        owner = wait_for(find, 60, "an owner on whom all agree")
        assert owner is not None
        return owner

    def follow(self) -> ClusterNode:
        """Have the node without slots replicate the owner, and wait until it is up to date. Returns it."""
        owner = self.owner()
        spare = next(n for n in self.nodes if n.role() == "slave" or n.id.encode() not in self._with_slots())
        spare.command("REPLICATE", owner.id)

        def is_up() -> bool:
            with spare.client() as client:
                state = client.info("replication")
                return state.get("master_port") == owner.port and state.get("master_link_status") == "up"

        wait_for(is_up, 60, "the replica is up to date")
        wait_for(lambda: any(len(r) > 3 for r in owner.command("SLOTS")), 60, "the owner knows its replica")
        return spare

    def _with_slots(self) -> set[bytes]:
        return {entry[2][2] for entry in self.nodes[0].command("SLOTS")}

    def begin_move(self) -> tuple[ClusterNode, ClusterNode]:
        """Start to move the slot to another primary. Returns the source and the target."""
        source = self.owner()
        target = next(n for n in self.nodes if n.role() == "master" and n is not source)
        target.command("SETSLOT", SLOT, "IMPORTING", source.id)
        source.command("SETSLOT", SLOT, "MIGRATING", target.id)
        return source, target

    def move_keys(self, source: ClusterNode, target: ClusterNode, limit: int = 1000) -> int:
        """Move some keys; how many."""
        keys = source.command("GETKEYSINSLOT", SLOT, limit)
        if keys:
            with source.client() as client:
                client.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        return len(keys)

    def end_move(self, source: ClusterNode, target: ClusterNode) -> None:
        """Move what is left, and give the slot to the target."""
        while self.move_keys(source, target):
            pass
        for node in (target, source, *[n for n in self.nodes if n.role() == "master"]):
            node.command("SETSLOT", SLOT, "NODE", target.id)
        wait_for(lambda: self.owner() is target, 60, "the slot has moved")

    def uncover(self, node: ClusterNode) -> int:
        """Take one slot away from a primary, on all nodes: the cluster is down. Returns the slot."""
        slot = next(int(r[0]) for r in node.command("SLOTS") if r[2][2].decode() == node.id)
        for one in self.nodes:
            one.command("DELSLOTS", slot)
        wait_for(lambda: "cluster_state:fail" in self.owner().command("INFO").decode(), 60, "it is down")
        return slot

    def cover(self, node: ClusterNode, slot: int) -> None:
        """Give the slot back to its primary."""
        node.command("ADDSLOTS", slot)
        wait_for(lambda: all(self._agrees(one) for one in self.nodes), 60, "all slots are served")

    def close(self) -> None:
        for node in self.nodes:
            node.stop()


@pytest.fixture(scope="session")
def running_cluster() -> Iterator[RealCluster]:
    made = RealCluster()
    yield made
    made.close()


@pytest.fixture
def redis_cluster(running_cluster: RealCluster) -> RealCluster:
    """An empty cluster, whose owner has a replica."""
    for node in running_cluster.nodes:
        if node.process is None:
            node.start()
    owner = running_cluster.owner()
    with owner.client() as client:
        client.flushall()
    running_cluster.follow()
    return running_cluster
