"""What newcomers look for is found: for each question the page that answers it is the first of a search.

The search is that of the site in short: sections of pages, a word in a heading counts more than one in the
text, rare words count more than frequent ones, and a section with all the words before one with some of them.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections import Counter
from functools import cache

import pytest

from tests.support.processes import ROOT

DOCS = ROOT / "docs"
QUESTIONS = {
    "how do I retry with back-off": "tasks.md",
    "what happens to a failed task": "tasks.md",
    "acknowledge late or early": "tasks.md",
    "task sent twice idempotency key": "calling.md",
    "run a task later countdown": "calling.md",
    "chord when a member fails": "workflows.md",
    "which queue does a task go to routing": "routing.md",
    "where are results stored": "results.md",
    "periodic tasks schedule crontab": "schedules.md",
    "test without a worker": "testing.md",
    "what is the visibility timeout here": "tuning.md",
    "prefetch": "tuning.md",
    "how many processes concurrency": "tuning.md",
    "deploy on Kubernetes": "deploying.md",
    "graceful shutdown": "deploying.md",
    "systemd unit": "deploying.md",
    "is my task lost when a worker is killed": "guarantees.md",
    "at-least-once": "guarantees.md",
    "dead-letter": "incidents.md",
    "poison message": "incidents.md",
    "backlog grows": "incidents.md",
    "worker is silent": "incidents.md",
    "broker is down": "incidents.md",
    "security keys for control requests": "hardening.md",
    "upgrade to a new version": "upgrades.md",
    "priorities on RabbitMQ": "brokers.md",
    "migrate from Celery": "celery.md",
}
#: how much more a word in the title of a page, and in a heading, counts than one in the text
TITLE, HEADING = 4.0, 8.0
STOP = frozenset(
    "a an and are as at be by can do does for from go goes have here how i if in is it its me my not of on "
    "or so that the their there they this to was what when where which who will with without".split()
)


def words_of(text: str) -> list[str]:
    """The words that are looked for: lower case, without endings and stop words."""
    words = re.findall(r"[a-z0-9_]+", text.lower())
    return [re.sub(r"(?:ies|y|ing|ed|es|s|e)$", "", w) if len(w) > 4 else w for w in words if w not in STOP]


@cache
def weights() -> dict[str, float]:
    """What mkdocs is told of pages that have every word."""
    spec = importlib.util.spec_from_file_location("site_hooks", DOCS / "site" / "hooks.py")
    assert spec is not None and spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    return dict(hooks.WEIGHTS)


@cache
def sections() -> list[tuple[str, Counter[str], int]]:
    """(page, weighted words, length) of each section."""
    found = []
    for path in sorted(DOCS.glob("*.md")):
        text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
        title = ""
        for part in re.split(r"^(?=#+ )", text, flags=re.M):
            heading, _, body = part.partition("\n")
            title = title or heading
            counts = Counter(words_of(body))
            for word in words_of(heading):
                counts[word] += HEADING
            for word in words_of(title):
                counts[word] += TITLE
            found.append((path.name, counts, sum(counts.values())))
    return found


def search(question: str) -> list[str]:
    """Pages, the best first."""
    asked = sorted(set(words_of(question)))
    number = len(sections())
    mean = sum(length for _, _, length in sections()) / number
    rare = {
        word: math.log(1 + number / (1 + sum(word in counts for _, counts, _ in sections())))
        for word in asked
    }
    best: dict[str, float] = {}
    for page, counts, length in sections():
        score = sum(
            rare[word] * counts[word] * 2.2 / (counts[word] + 1.2 * (0.4 + 0.6 * length / mean))
            for word in asked
        )
        score *= (sum(word in counts for word in asked) / len(asked)) * weights().get(page, 1.0)
        best[page] = max(best.get(page, 0.0), score)
    return sorted((page for page in best if best[page]), key=lambda page: -best[page])


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_page_that_answers_a_question_is_found_first(question: str) -> None:
    found = search(question)

    assert found[0] == QUESTIONS[question], found[:4]
