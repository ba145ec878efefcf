"""Which server of a list is tried next, without any server."""

from __future__ import annotations

import os

import pytest

from qcore import App
from qcore.brokers.registry import open_broker
from qcore.brokers.shared.endpoints import BACKOFF_MOST_S, Endpoints, join_urls, shared, split_urls
from qcore.errors import ConfigError, mask_url

A, B, C = "redis://a:1/0", "redis://b:2/0", "redis://c:3/0"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_text_and_a_list_name_the_same_servers() -> None:
    assert split_urls(f"{A} ; {B};") == split_urls([A, B]) == [A, B]
    assert join_urls((A, B)) == f"{A};{B}"


def test_a_semicolon_in_a_file_name_or_a_password_divides_nothing() -> None:
    assert split_urls("sqlite:////tmp/a;b.db") == ["sqlite:////tmp/a;b.db"]
    assert split_urls("redis://:x;y@a/0;redis://b/0") == ["redis://:x;y@a/0", "redis://b/0"]


def test_the_server_in_use_is_tried_first_and_then_those_after_it() -> None:
    endpoints = Endpoints([A, B, C])
    endpoints.reached(B)

    assert endpoints.to_try() == [B, C, A]


def test_a_server_that_failed_is_left_alone_for_a_while_and_longer_each_time() -> None:
    clock = Clock()
    endpoints = Endpoints([A, B], clock=clock)
    waits = []

    for _ in range(8):
        endpoints.failed(A)
        began = clock.now
        while A not in endpoints.to_try():
            clock.now += 0.01
        waits.append(round(clock.now - began, 2))

    assert waits[0] == pytest.approx(0.1, abs=0.02)
    assert waits == sorted(waits)
    assert waits[-1] == pytest.approx(BACKOFF_MOST_S, abs=0.02)


def test_one_is_always_tried_and_a_success_forgets_the_failures() -> None:
    clock = Clock()
    endpoints = Endpoints([A, B], clock=clock)
    endpoints.failed(A)
    endpoints.failed(B)
    endpoints.failed(B)

    assert endpoints.to_try() == [A]
    endpoints.reached(B)
    assert endpoints.to_try() == [B]
    clock.now += 0.2
    assert endpoints.to_try() == [B, A]


def test_shuffle_takes_another_order_and_nothing_else_is_known() -> None:
    assert Endpoints([A, B, C], "shuffle", shuffle=lambda urls: urls.reverse()).to_try() == [C, B, A]
    with pytest.raises(ConfigError, match="takes 'round-robin' or 'shuffle', not 'random'"):
        Endpoints([A], "random")


def test_all_of_a_process_are_at_the_same_server() -> None:
    shared(f"{A};{B}").reached(B)

    assert shared(join_urls([A, B])).current == B
    assert shared(A).current == A


def test_a_forked_process_is_where_its_parent_is() -> None:
    endpoints = Endpoints([A, B])
    child = os.fork()
    if not child:
        endpoints.reached(B)
        os._exit(0)
    os.waitpid(child, 0)

    assert endpoints.current == B
    assert endpoints.to_try() == [B, A]


def test_the_app_keeps_the_whole_list_and_shows_no_password() -> None:
    urls = ["redis://:hunter2@a:1/0", "redis://u:hunter3@b:2/0"]
    for given in (urls, ";".join(urls)):
        app = App("x", set_as_current=False, broker_url=given)

        assert app.broker_url() == ";".join(urls)
        assert "hunter" not in repr(app) + mask_url(app.broker_url())
        assert "u:********@b:2" in repr(app)
    assert mask_url("redis://a/0?password=hunter2&db=1") == "redis://a/0?password=********&db=1"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"{A};amqp://b", "of one kind, not kombu and redis"),
        ("sqlite:///a;sqlite:///b", "the sqlite broker takes one URL, not 2"),
        ("redis://a:99999/0;redis://b", "bad port"),
        (f"sentinel://a;{A}", "contains only sentinel URLs"),
        ("sentinel://a", "master_name"),
    ],
)
def test_lists_that_cannot_be_used_are_refused(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        open_broker(url)
