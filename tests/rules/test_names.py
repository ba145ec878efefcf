"""Names use the words of docs/glossary.md; words that were given up do not come back."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.rules.test_floors import modules, parsed

#: words that nobody outside this project would understand, and what is said instead
RETIRED = {
    "apart": "individually",
    "aside": "quarantine",
    "ears": "poller, subscription",
    "everybody": "all workers",
    "hush": "drain",
    "looker": "poll",
    "manner": "options",
    "reel": "recording",
    "sieve": "column filter",
    "takings": "throughput",
    "tape": "replay",
    "told": "reported, sent",
    "twin": "duplicate name",
    "verbs": "commands, actions",
    "verdict": "report, outcome",
    "whereabouts": "location",
    "whom": "destination, recipients",
}
#: names that are someone else's: Celery's class for cameras
ALLOWED = {"twins", "set_aside"}


def words_of(name: str) -> set[str]:
    """The words of a snake_case or CamelCase name, in lower case."""
    return {w.lower() for part in name.split("_") for w in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", part)}


def public_names(tree: ast.Module) -> list[str]:
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [node.name for node in ast.walk(tree) if isinstance(node, kinds) and not node.name.startswith("_")]


@cache
def places() -> dict[str, list[str]]:
    """The names in which each word is."""
    found: dict[str, list[str]] = {}
    for module, path in modules().items():
        for name in (module.rpartition(".")[2], *public_names(parsed(path))):
            for word in words_of(name) if name not in ALLOWED else ():
                found.setdefault(word, []).append(f"{module}: {name}")
    return found


@pytest.mark.parametrize("word", RETIRED)
def test_a_retired_word_is_in_no_name(word: str) -> None:
    found = places().get(word, [])

    assert not found, f"say {RETIRED[word]}: {found}"


def test_the_words_of_a_name_are_told_apart() -> None:
    assert words_of("LeaseKeeper") == {"lease", "keeper"}
    assert words_of("set_aside") == {"set", "aside"}
    assert words_of("RPCStore2") == {"rpc", "store"}
