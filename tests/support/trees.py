"""Workflows from data: the canvas of a tree, with the signatures of Celery or of qcore.

A node is a mapping. `k` is its kind: task, chain, group, chord, map, starmap or chunks; `n` its number, which
is unique in the tree. `link` and `err` are nodes that it calls when it succeeds or fails. Of a task, `do` is
what it does: ok, fail, retry (twice, then ok), gives_up (fails after one retry), ignored (no result),
Ignore (raised), replace (by the node `by`).
"""

from __future__ import annotations

from typing import Any


def build(node: dict[str, Any], tree: str, package: Any, app: Any) -> Any:
    """The canvas of a node, of `package`: celery, or what stands for it."""

    def sig(name: str, args: Any = (), **options: Any) -> Any:
        return package.signature(name, args=args, app=app, **options)

    def all_of(nodes: list[dict[str, Any]]) -> list[Any]:
        return [build(one, tree, package, app) for one in nodes]

    kind, n = node["k"], node["n"]
    if kind == "task":
        kwargs = {"tree": tree, "n": n, "do": node["do"]}
        if "by" in node:
            kwargs["by"] = node["by"]
        made = sig("trees.run", tuple(node["args"]), kwargs=kwargs, immutable=node["si"])
        if node["do"] == "ignored":
            made.set(ignore_result=True)
    elif kind in ("failed", "told"):
        made = sig(f"trees.{kind}", kwargs={"tree": tree, "n": n}, immutable=False)
    elif kind == "chain":
        made = package.chain(*all_of(node["in"]))
    elif kind == "group":
        made = package.group(all_of(node["in"]))
    elif kind == "chord":
        made = package.chord(all_of(node["in"]), build(node["body"], tree, package, app))
    elif kind == "or":  # the operator, which has rules of its own
        first, *rest = all_of(node["in"])
        made = first
        for one in rest:
            made = made | one
    elif kind == "map":
        made = package.xmap(sig("trees.item"), [[tree, n, i] for i in range(node["items"])], app=app)
    else:
        items = [(tree, n, i) for i in range(node["items"])]
        if kind == "starmap":
            made = package.xstarmap(sig("trees.item"), items, app=app)
        else:
            made = package.chunks(sig("trees.item"), items, 2, app=app).group()
    for one in node.get("link", ()):
        made.link(build(one, tree, package, app))
    for one in node.get("err", ()):
        made.link_error(build(one, tree, package, app))
    return made
