"""A credential provider tells user name and password of the result store in Redis, as in Celery."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import celery
import pytest
import redis

from qcore import App
from qcore.errors import BrokerDown, ConfigError
from tests.support.redis_server import RedisServer

ASKED: list[str] = []


class Provider(redis.CredentialProvider):
    """Says the password of this moment."""

    password = ""

    def get_credentials(self) -> tuple[str, str]:
        ASKED.append(Provider.password)
        return "keeper", Provider.password


@pytest.fixture
def server(redis_server: RedisServer, redis_url: str) -> Iterator[redis.Redis]:
    """A server with the user `keeper`."""
    client = redis.Redis.from_url(redis_url)
    Provider.password = secrets.token_hex(8)
    client.acl_setuser(
        "keeper", True, passwords=[f"+{Provider.password}"], keys="*", channels="*", categories=["+@all"]
    )
    ASKED.clear()
    yield client
    client.acl_deluser("keeper")
    client.close()


def connections_of(client: redis.Redis, user: str) -> int:
    return sum(one["user"] == user for one in client.client_list())


@pytest.mark.parametrize(
    "given",
    [Provider(), f"{__name__}.Provider", f"{__name__}:Provider"],
    ids=["object", "module.Class", "module:Class"],
)
@pytest.mark.parametrize("package", ["celery", "qcore"])
def test_results_are_stored_by_the_user_that_the_provider_tells(
    server: redis.Redis, redis_url: str, package: str, given: Any
) -> None:
    kind: Any = App if package == "qcore" else celery.Celery
    app = kind("t", broker=redis_url, backend=redis_url, set_as_current=False)
    app.conf.redis_backend_credential_provider = given

    app.backend.store_result("id", 3, "SUCCESS")

    assert app.AsyncResult("id").get(timeout=10) == 3
    assert ASKED and set(ASKED) == {Provider.password}
    assert connections_of(server, "keeper") > 0
    app.close()


def test_each_connection_asks_the_provider_anew(server: redis.Redis, redis_url: str) -> None:
    app = App("t", broker="memory://asked", backend=redis_url, set_as_current=False)
    app.conf.redis_backend_credential_provider = Provider()
    app.backend.store_result("id", 3, "SUCCESS")
    before = Provider.password
    Provider.password = secrets.token_hex(8)
    server.acl_setuser("keeper", True, passwords=[f"-{before}", f"+{Provider.password}"])
    server.client_kill_filter(user="keeper")

    app.backend.store_result("id", 4, "SUCCESS")

    assert ASKED[-1] == Provider.password != before
    Provider.password = "wrong"
    server.client_kill_filter(user="keeper")
    with pytest.raises(BrokerDown, match="invalid username-password"):
        app.backend.store_result("id", 5, "SUCCESS")
    app.close()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("json:JSONDecoder", "derive it from redis.CredentialProvider"),
        ("no.such.Provider", "cannot be loaded"),
    ],
)
def test_what_is_no_provider_is_an_error(redis_url: str, given: str, words: str) -> None:
    app = App("t", broker="memory://asked", backend=redis_url, set_as_current=False)
    app.conf.redis_backend_credential_provider = given

    with pytest.raises(ConfigError, match=words):
        _ = app.results
    app.close()
