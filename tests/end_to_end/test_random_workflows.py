"""Random workflows on a worker of Celery's and on one of qcore's: the same results, the same runs, no hang.

QCORE_TREES is their number (60; by hand 2000), QCORE_TREES_SEED chooses others.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import celery
import pytest
import redis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import qcore
from tests.support.processes import Processes
from tests.support.redis_server import RedisServer
from tests.support.trees import build
from tests.support.waiting import wait_for

pytestmark = pytest.mark.slow

TREES = int(os.environ.get("QCORE_TREES", "60"))
SEED = int(os.environ.get("QCORE_TREES_SEED", "7"))
#: trees in flight at once
BATCH = 30
Tree = dict[str, Any]


# --- the trees

DEEDS = ("ok",) * 8 + ("fail", "retry", "gives_up", "ignored", "Ignore", "replace")


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """At most 12 nodes, besides errbacks, on at most 4 levels."""
    left = [12]
    numbers = iter(range(1, 1000))

    def task(do: str = "") -> Tree:
        left[0] -= 1
        node: Tree = {"k": "task", "n": next(numbers), "do": do or draw(st.sampled_from(DEEDS))}
        node["args"] = draw(st.sampled_from([[], [], [], ["a"], ["a", "b"]]))
        node["si"] = draw(st.sampled_from([False] * 5 + [True]))
        if node["do"] == "replace":
            node["by"] = tree(2) if left[0] > 0 else task("ok")
        return node

    def members(levels: int, least: int) -> list[Tree]:
        return [tree(levels - 1) for _ in range(draw(st.integers(least, 3)))]

    def tree(levels: int) -> Tree:
        kind = "task"
        if levels > 1 and left[0] > 2:
            kind = draw(st.sampled_from(["task", "task", "chain", "chain", "or", "group", "chord", "items"]))
        if kind == "items":
            kind = draw(st.sampled_from(["map", "starmap", "chunks"]))
            left[0] -= 1
            node: Tree = {"k": kind, "n": next(numbers), "items": draw(st.integers(1, 4))}
        elif kind == "task":
            node = task()
        else:
            node = {"k": kind, "n": next(numbers), "in": members(levels, 1 if kind == "group" else 2)}
            if kind == "chord":
                node["body"] = tree(levels - 1)
        if draw(st.sampled_from([False] * 6 + [True])) and left[0] > 0:
            node["link"] = [task("ok")]
        if draw(st.sampled_from([False] * 4 + [True])):
            node["err"] = [{"k": draw(st.sampled_from(["failed", "told"])), "n": next(numbers)}]
        return node

    return tree(4)


def follows_a_group_body(node: Tree) -> bool:
    """Whether a step follows a chord whose body is a group: Celery runs it once for each member."""
    several, steps = ("group", "chunks"), flat(node) if node["k"] in ("chain", "or") else []
    found = any(step["k"] == "chord" and step["body"]["k"] in several for step in steps[:-1])
    # Of two groups, one behind the other, the second one is the body of a chord.
    found |= any(a["k"] in several and b["k"] in several for a, b in pairwise(steps[:-1]))
    return found or any(map(follows_a_group_body, parts(node)))


def flat(node: Tree) -> list[Tree]:
    """The steps of a chain, with those of the chains in it."""
    return [step for one in node["in"] for step in (flat(one) if one["k"] in ("chain", "or") else [one])]


def drawn(number: int) -> list[Tree]:
    """Different trees, of SEED."""
    found: dict[str, Tree] = {}

    @seed(SEED)
    @settings(
        max_examples=number * 2,
        database=None,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(trees())
    def draw(tree: Tree) -> None:
        if not follows_a_group_body(tree):
            found[json.dumps(tree)] = tree

    draw()
    return list(found.values())[:number]


# --- the two sides


class Side(NamedTuple):
    """A package, an app that only sends, and how to see whether its worker has nothing left to do."""

    package: Any
    app: Any
    watch: qcore.App
    notes: redis.Redis

    def is_empty(self) -> bool:
        admin = self.watch.broker.administration
        depth = admin.depth("trees")
        return not (depth.ready or depth.delayed or depth.in_flight or admin.held_by_others())

    def settle(self) -> None:
        """Wait until nothing runs and nothing follows. A message that a worker takes is for a moment nowhere,
        so a fence is sent after it: nothing but the fence may have run between two empty moments."""
        while True:
            wait_for(self.is_empty, 100)
            before = int(self.notes.get("all") or 0)
            self.app.send_task("trees.fence", queue="trees").get(timeout=100)
            wait_for(self.is_empty, 100)
            if int(self.notes.get("all") or 0) == before + 1:
                return

    def sent(self, batch: list[Tree]) -> list[tuple[str, Any]]:
        """The name of each tree, and the handle of its result."""
        names = [uuid.uuid4().hex for _ in batch]
        return [(name, self.send(tree, name)) for tree, name in zip(batch, names, strict=True)]

    def found(self, sent: list[tuple[str, Any]]) -> list[tuple[Any, dict[str, int]]]:
        """What came of each tree: its value or exceptions, and the runs of its tasks."""
        self.settle()
        runs = [self.notes.hgetall(f"runs.{name}") for name, _ in sent]
        return [
            (outcome(result), {k.decode(): int(v) for k, v in sorted(found.items())})
            for (_, result), found in zip(sent, runs, strict=True)
        ]

    def send(self, tree: Tree, name: str) -> Any:
        try:
            return build(tree, name, self.package, self.app).apply_async(queue="trees")
        except Exception as exc:
            return exc


def outcome(result: Any) -> Any:
    """A value as JSON, the name of an exception's class, or that there is none."""
    if result is None or isinstance(result, Exception):
        return f"not sent: {type(result).__name__}"
    if hasattr(result, "results"):
        return [outcome(one) for one in result.results]
    try:
        return json.loads(json.dumps(result.get(timeout=0 if result.ready() else 0.2)))
    except Exception as exc:
        return "pending" if type(exc).__name__ == "TimeoutError" else f"raised {type(exc).__name__}"


@pytest.fixture
def sides(
    redis_server: RedisServer, redis_url: str, processes: Processes, tmp_path: Path
) -> Iterator[tuple[Side, Side]]:
    made = []
    for db, package in ((1, celery), (2, qcore)):
        url, notes = (redis_url.removesuffix("/0") + f"/{n}" for n in (db, db + 2))
        env = {"TREES_URL": url, "TREES_NOTES": notes}
        start = processes.celery if package is celery else processes.qctl
        words = ("-A", "tests.projects.trees", "worker", "-c", "2", "-l", "INFO", "-Q", "trees")
        worker = start(*words, "-n", f"{package.__name__}@trees", env=env)
        worker.wait_output("ready")
        app = (celery.Celery if package is celery else qcore.App)(
            "client", broker=url, backend=url, set_as_current=False
        )
        watch = qcore.App("watch", broker=url, backend=url, set_as_current=False)
        made.append(Side(package, app, watch, redis.Redis.from_url(notes)))
    yield made[0], made[1]
    for side in made:
        side.app.close()
        side.watch.close()


# --- differences that are meant; docs/celery.md names them


def owners(node: Tree) -> Iterator[tuple[str, Tree]]:
    """Each errback's number, and the node that it belongs to."""
    for errback in node.get("err", ()):
        yield str(errback["n"]), node
    for part in parts(node):
        yield from owners(part)


def parts(node: Tree) -> list[Tree]:
    return [*node.get("in", ()), *node.get("link", ()), *(node[key] for key in ("body", "by") if key in node)]


def numbers(node: Tree) -> set[str]:
    return {str(node["n"])}.union(*map(numbers, parts(node)))


def group_in_group(node: Tree) -> bool:
    inner = any(one["k"] in ("group", "chunks") for one in node.get("in", ()))
    return (inner and node["k"] in ("group", "chord")) or any(map(group_in_group, parts(node)))


def lost(node: Tree, key: str = "") -> Iterator[str]:
    """The numbers of the links that Celery loses: of members of a group that ends a chain with links of its
    own, and of a chain that is the only member of another one."""
    if key:
        for one in node.get(key, ()):
            yield from numbers(one)
        for one in node.get("in", ())[-1:] if node["k"] in ("chain", "or") else node.get("in", ()):
            yield from lost(one, key)
        return
    for kind in ("link", "err"):
        last = node
        while last["k"] in ("chain", "or"):
            last = last["in"][-1]
        if node.get(kind) and last is not node and last["k"] in ("group", "chord"):
            yield from lost(last, kind)
    if node["k"] in ("chain", "or") and len(node["in"]) == 1 and node["in"][0]["k"] in ("chain", "or"):
        for one in (*node["in"][0].get("link", ()), *node["in"][0].get("err", ())):
            yield from numbers(one)
    for part in parts(node):
        yield from lost(part)


def is_replaced_by_many(task: Tree) -> bool:
    return task.get("do") == "replace" and task["by"]["k"] in ("group", "chord", "chunks")


def chord_in_chord(node: Tree, within: bool = False) -> bool:
    """Whether a member of a chord is, or contains, another chord (a group and what follows is one)."""
    holds = node["k"] in ("chord", "group", "chunks")
    return (within and holds) or any(chord_in_chord(one, within or holds) for one in parts(node))


def unordered(value: Any) -> Any:
    """A value without the order of its lists, without lists of one, and without what failed first."""
    if not isinstance(value, list):
        return "raised " if str(value).startswith("raised ") else value
    found = sorted(map(unordered, value), key=json.dumps)
    return found[0] if len(found) == 1 else found


def unnamed(runs: dict[str, int]) -> dict[str, int]:
    """The runs without the exceptions that errbacks were told."""
    found: dict[str, int] = {}
    for what, count in runs.items():
        found[what.split()[0]] = found.get(what.split()[0], 0) + count
    return found


def settled(theirs: Any, ours: Any) -> bool:
    """The same, or a failure here where Celery's stays pending or is the ChordError that follows from it."""
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        return all(map(settled, theirs, ours))
    follows = theirs in ("pending", "raised ChordError") and str(ours).startswith("raised ")
    return bool(theirs == ours or follows)


def meant(tree: Tree, theirs: Any, ours: Any) -> bool:
    """Whether two outcomes differ as they are meant to.

    When a chord's header fails, qcore calls the errbacks of the tasks that therefore do not run, of its body
    and of the chords around it. Celery does not where the body is a chain, nor where the failed
    chord is a member of another one, which then never completes: its result stays pending,
    and get() of the outer one raises what another member raised, if one did. In a
    workflow of several chords get() raises what failed first; Celery knows not all parents and may raise the
    ChordError that followed. Celery reverses the results of a group in a group, so another failed member may
    be its first, and a group whose only member is a group of one is still a group there. Celery loses the
    callbacks and errbacks of the members of a group that is a chain's last step, if the chain has its own,
    those of a chain that is the only member of another one, and the errbacks of a task that is replaced by a
    group or a chord.
    """
    (their_value, their_runs), (our_value, our_runs) = theirs, ours
    if group_in_group(tree):
        their_value, our_value = unordered(their_value), unordered(our_value)
        their_runs, our_runs = unnamed(their_runs), unnamed(our_runs)
    both = str(their_value).startswith("raised ") and our_value == "raised ChordError"
    if not settled(their_value, our_value) and not (both and chord_in_chord(tree)):
        return False
    of, replaced = dict(owners(tree)), set(lost(tree))
    for what in {*their_runs, *our_runs}:
        if their_runs.get(what) == our_runs.get(what):
            continue
        number = what.split()[0]
        if number in replaced and what not in their_runs:
            continue
        if number in of and what not in their_runs and all(map(is_replaced_by_many, ends(of[number]))):
            continue
        if number not in of or their_runs.get(what, 0) > our_runs.get(what, 0):
            return False
        if what in their_runs and not chord_in_chord(tree):
            return False
        if all(numbers(last) & set(our_runs) for last in ends(of[number])):
            return False
    return True


def ends(node: Tree) -> list[Tree]:
    """The tasks that an errback of this node belongs to: its last one, of a group that of each member."""
    if node["k"] == "group":
        return [end for one in node["in"] for end in ends(one)]
    if node["k"] in ("chain", "or", "chord"):
        return ends(node["body"] if "body" in node else node["in"][-1])
    return [node]


def different(sides: tuple[Side, Side], batch: list[Tree]) -> list[tuple[Tree, Any, Any]]:
    sent = [side.sent(batch) for side in sides]
    theirs, ours = (side.found(those) for side, those in zip(sides, sent, strict=True))
    return [(t, c, q) for t, c, q in zip(batch, theirs, ours, strict=True) if c != q and not meant(t, c, q)]


def smaller(tree: Tree) -> Iterator[Tree]:
    """The trees with one part less."""
    for key in ("link", "err", "si", "args"):
        if tree.get(key):
            yield {**tree, key: False if key == "si" else []}
    if tree.get("do") not in (None, "ok"):
        yield {**{k: v for k, v in tree.items() if k != "by"}, "do": "ok"}
    for key in ("in", "link"):
        for i, one in enumerate(tree.get(key, ())):
            if key == "in":
                yield one
                if len(tree["in"]) > 1:
                    yield {**tree, "in": tree["in"][:i] + tree["in"][i + 1 :]}
            for less in smaller(one):
                yield {**tree, key: [*tree[key][:i], less, *tree[key][i + 1 :]]}
    for key in ("body", "by"):
        if key in tree:
            yield tree[key]
            for less in smaller(tree[key]):
                yield {**tree, key: less}


def reduced(sides: tuple[Side, Side], tree: Tree) -> tuple[Tree, Any, Any] | None:
    """A small tree that still differs."""
    found, candidates = None, [tree]
    while candidates:
        left = different(sides, candidates)
        if not left:
            break
        found = min(left, key=lambda one: len(json.dumps(one[0])))
        candidates = list(smaller(found[0]))[:40]
    return found


@pytest.mark.timeout(7200 if TREES > 60 else 300)
def test_random_workflows_do_the_same_on_both_workers(sides: tuple[Side, Side]) -> None:
    batch, found = drawn(TREES), []

    for first in range(0, len(batch), BATCH):
        left = different(sides, batch[first : first + BATCH])
        # A process of Celery's that retries at once may write RETRY over the SUCCESS of the next attempt, and
        # a group waits for ever. Such a tree is tried again; any other difference counts at once.
        again = [tree for tree, (value, runs), ours in left if value == "pending" and runs == ours[1]]
        found += [one for one in left if one[0] not in again]
        found += different(sides, again) if again else []

    shown = []
    for tree, theirs, ours in found[:10]:
        small = reduced(sides, tree) or (tree, theirs, ours)
        shown.append("\n".join([json.dumps(small[0]), f"  celery {small[1]}", f"  qcore  {small[2]}"]))
    assert not found, f"{len(found)} of {len(batch)} differ\n" + "\n".join(shown)
