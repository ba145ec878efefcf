"""The connections of an app to its broker and its result store, opened at their first use.

In:  settings.  Out: an open Broker and ResultStore of this process; a forked child opens its own.
Before this: app.py.  After this: brokers/registry.py and results/registry.py choose the drivers.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable
from typing import Any

from qcore.app.queues import QueueTable
from qcore.base import provided
from qcore.brokers.base import Broker
from qcore.brokers.contract.schedules import ScheduleStore
from qcore.brokers.registry import open_broker
from qcore.brokers.shared.endpoints import join_urls
from qcore.errors import ConfigError, UnknownName, keep_secret
from qcore.results.base import ResultStore
from qcore.results.registry import celery_backend, results
from qcore.settings.config import Config
from qcore.wire.compression import compress
from qcore.wire.content import type_of
from qcore.wire.result_form import ResultForm

DEFAULT_BROKER = "sqlite://"
#: settings for stores in SQL databases
OF_DATABASE = (
    "result_extended",
    "database_create_tables_at_setup",
    "database_engine_callback",
    "database_engine_options",
    "database_short_lived_sessions",
    "database_table_names",
    "database_table_schemas",
)
#: schemes of stores that keep compressed results: Celery's, and qcore's own
COMPRESSIBLE = (
    *("", "redis", "rediss", "redis+cluster", "rediss+cluster", "redis+socket", "sentinel", "unix"),
    *("file", "sqlite", "memory"),
)
#: settings of the queues of control and of events
BUS_QUEUES = (
    "control_queue_ttl control_queue_expires control_queue_exclusive control_queue_durable "
    "event_queue_ttl event_queue_expires event_queue_exclusive event_queue_durable event_queue_prefix"
).split()
#: values of result_backend that take the URL from another setting, as in Celery
OTHER_SETTINGS = {"cache": "cache_backend", "database": "database_url", "db": "database_url"}


class Connections:
    """after_fork is called in a forked child at its first use of a connection."""

    def __init__(self, conf: Config, after_fork: Callable[[], None], app: Any = None) -> None:
        self.conf, self._after_fork, self._app = conf, after_fork, app
        self._lock, self._pid = threading.RLock(), os.getpid()
        self._broker: Broker | None = None
        self._results: ResultStore | None = None
        self._schedules: ScheduleStore | None = None
        self._keeper: Broker | None = None  # of the schedule, where it is not the broker
        self._backend: tuple[ResultStore, Any] | None = None
        self._of_thread = threading.local()
        self._consumes = False
        self._known_url: Any = None  # the result_backend whose name was looked up last
        self._form: ResultForm | None = None

    @property
    def broker(self) -> Broker:
        """The broker of the settings; connects at its first use."""
        if self._pid != os.getpid():
            self._forked()
        if self._broker is None:
            with self._lock:
                if self._broker is None:
                    self._broker = open_broker(self.broker_url(), self.broker_options())
        return self._broker

    def broker_url(self) -> str:
        """The broker's URL, or several joined by `;`, with their passwords; the embedded broker's if none is
        set."""
        conf = self.conf
        own = conf["broker_read_url"] if self._consumes else conf["broker_write_url"]
        general = url_of_settings(conf) or conf["broker_read_url"] or conf["broker_write_url"]
        return join_urls(own or general or DEFAULT_BROKER)

    def consume(self) -> None:
        """Use broker_read_url in this process from now on. A process that it forks uses broker_write_url."""
        if self.conf["broker_read_url"] or self.conf["broker_write_url"]:
            self.close()
        self._consumes = True

    def broker_options(self) -> dict[str, Any]:
        conf, table = self.conf, QueueTable(self.conf)
        return {
            "connect_timeout_s": conf.broker_connection_timeout,
            "broker_heartbeat": conf.broker_heartbeat,
            "broker_heartbeat_checkrate": conf.broker_heartbeat_checkrate,
            "broker_login_method": conf.broker_login_method,
            "broker_failover_strategy": conf.broker_failover_strategy,
            "broker_use_ssl": conf.broker_use_ssl,
            "broker_native_delayed_delivery_queue_type": conf.broker_native_delayed_delivery_queue_type,
            "control_exchange": f"{conf.control_exchange}.pidbox",
            "define_queue": table.definition,
            "fanouts": table.fanouts,
            **{name: conf[name] for name in BUS_QUEUES},
            "lease_s": conf.seconds("worker_lease") or 30.0,
            "failed_ttl_s": conf.seconds("failed_task_expires"),
            "failed_max": conf.failed_tasks_max,
            "result_prefix": self._result_prefix(),
            "result_form": self.form,
            "result_chord_ordered": conf.result_backend_transport_options.get("result_chord_ordered", True),
            **(
                self._connection_options() if _same_place(str(conf.result_backend), self.broker_url()) else {}
            ),
            **conf.broker_transport_options,
        }

    def _result_prefix(self) -> str:
        """The prefix of result keys: global_keyprefix of the result backend, as in Celery, whose clients read
        these keys. Without a result_backend the broker stores the results, and its prefix is the default."""
        conf = self.conf
        own = conf.result_backend_transport_options.get("global_keyprefix", "")
        if own or conf.result_backend:
            return str(own)
        return str(conf.broker_transport_options.get("global_keyprefix") or "")

    @property
    def results(self) -> ResultStore:
        """The result store of the settings, or the broker's own."""
        if self._pid != os.getpid():
            self._forked()
        if self._results is None:
            with self._lock:
                if self._results is None:
                    store = self._open_results()
                    if self.conf.result_cache_max != -1:
                        from qcore.results.cached import ResultCache  # rarely set

                        ResultCache(store, self.conf.result_cache_max)
                    self._results = store
        return self._results

    @property
    def form(self) -> ResultForm:
        """How results are written and read. Raises ConfigError for an unknown serializer or compression."""
        if self._form is None:
            conf = self.conf
            accept = conf.accept_content if conf.result_accept_content is None else conf.result_accept_content
            compression = conf.result_compression
            if compression:
                compress(b"", compression)
                scheme = str(conf.result_backend or "").partition("://")[0]
                compression = compression if scheme in COMPRESSIBLE else None
            type_of(conf.result_serializer)
            self._form = ResultForm(conf.result_serializer, compression or None, frozenset(accept))
        return self._form

    @property
    def results_if_open(self) -> ResultStore | None:
        """The result store, unless it has to be opened first, which may block."""
        return self._results if self._pid == os.getpid() else None

    @property
    def schedules(self) -> ScheduleStore:
        """The store of the schedule: that of the setting schedule_store, else the broker. Raises ConfigError
        if the broker keeps no entries."""
        if self._pid != os.getpid():
            self._forked()
        if self._schedules is None:
            with self._lock:
                if self._schedules is None:
                    self._schedules = self._open_schedules()
        return self._schedules

    def _open_schedules(self) -> ScheduleStore:
        url = self.conf.schedule_store
        if not url or _same_place(url, self.broker_url()):
            if self.broker.features.schedules:
                return self.broker.schedules
            raise ConfigError(
                f"the broker {self.broker.name} cannot keep the schedule; set schedule_store to the URL of a "
                "Redis server, an SQLite file or an SQL database (redis://, sqlite://, db+postgresql://)"
            )
        if url.startswith("db+"):
            from qcore.brokers.sql_schedules import SqlScheduleStore

            return SqlScheduleStore(url, {"engine_options": self.conf.database_engine_options or {}})
        self._keeper = open_broker(url, {**self.broker_options(), "schedule_outbox": True})
        if not self._keeper.features.schedules:
            raise ConfigError(f"{self._keeper.name} cannot keep the schedule (schedule_store)")
        return self._keeper.schedules

    def _open_results(self) -> ResultStore:
        url = self.conf.result_backend
        # A provider tells other credentials than those of the broker's connections.
        own = self.conf.redis_backend_credential_provider
        if not url or (_same_place(url, self.broker_url()) and not own):
            if self.broker.features.results:
                from qcore.results.broker import BrokerResults

                return BrokerResults(self.broker_url(), broker=self.broker)
            if not url:
                return results.get("disabled")(self.broker_url())
        url = self._redis_url(str(url))
        place = (self.conf.override_backends or {}).get(url.partition("://")[0]) or celery_backend(url)
        if place is not None:
            return self._open_foreign(url, place)
        scheme, url = self._result_scheme(url)
        given = self.conf.result_backend_transport_options
        options = {
            "connect_timeout_s": self.conf.broker_connection_timeout,
            "broker_failover_strategy": self.conf.broker_failover_strategy,
            "broker_use_ssl": self.conf.redis_backend_use_ssl,
            # This prefix is for results only, not for all keys, so the driver has another name for it.
            **{k: v for k, v in given.items() if k != "global_keyprefix"},
            "result_prefix": given.get("global_keyprefix", ""),
            "result_form": self.form,
            "result_chord_ordered": given.get("result_chord_ordered", True),
            "result_expires_s": self.conf.seconds("result_expires"),
        }
        if results.aliases.get(scheme, scheme) == "redis":
            options = {**self._redis_options(), **options}
        if scheme == "rpc":
            options |= {"broker": self.broker, "result_persistent": self.conf.result_persistent}
        if scheme == "db" or scheme.startswith("cache+"):
            options.update({name: self.conf[name] for name in (*OF_DATABASE, "cache_backend_options")})
        return results.get(scheme)(url, options)

    def _redis_url(self, url: str) -> str:
        """A URL of Redis with what the settings redis_host, … say of the parts that it lacks; any other URL
        unchanged."""
        conf = self.conf
        scheme, separator, _ = url.partition("://")
        if scheme not in ("redis", "rediss"):
            return url
        parts = (conf.redis_host, conf.redis_port, conf.redis_username, conf.redis_password, conf.redis_db)
        return filled(url if separator else f"{url}://{conf.redis_host or 'localhost'}", *parts)

    def _redis_options(self) -> dict[str, Any]:
        """The options of a result store in Redis that settings give."""
        conf = self.conf
        found = {"health_check_interval": 0, **self._connection_options()}  # it is an option of brokers
        if conf.redis_backend_credential_provider:
            found["credential_provider"] = conf.redis_backend_credential_provider
        if conf.value_set_for("redis_socket_timeout"):
            found["socket_timeout"] = conf.redis_socket_timeout
        return found

    def _connection_options(self) -> dict[str, Any]:
        """Those that apply to connections to the broker too, where it is the result store."""
        conf = self.conf
        found = {
            "client_name": conf.redis_client_name,
            "idle_check_s": conf.redis_backend_health_check_interval,
            "socket_connect_timeout": conf.redis_socket_connect_timeout,
        }
        return {name: value for name, value in found.items() if value}

    def _open_foreign(self, url: str, place: str) -> ResultStore:
        """A store class of the project, or the store around a backend class of another package."""
        from qcore.app.foreign_results import ForeignResults
        from qcore.results.celery_stores import require_library, store_at

        module, _, name = place.partition(":")
        celerys = store_at(place)
        try:
            if celerys is not None:
                require_library(celerys)
            load = importlib.import_module if celerys is None else provided["celery_module"]
            found: Any = load(module)
            for attribute in name.split("."):
                found = getattr(found, attribute)
        except (ImportError, AttributeError) as exc:
            raise ConfigError(f"the result backend '{url}' ({place}) cannot be loaded: {exc}") from exc
        if isinstance(found, type) and issubclass(found, ResultStore):
            return found(url, {"result_expires_s": self.conf.seconds("result_expires")})
        return ForeignResults(url, {"app": self._app, "backend": found, "result_form": self.form})

    @property
    def backend(self) -> Any:
        """The results with the methods of Celery's backends: the backend of another package itself, or one
        around the result store. Each thread has its own, unless result_backend_thread_safe is set."""
        store = self.results
        if (own := getattr(store, "backend", None)) is not None:
            return own
        place: Any = self if self.conf.result_backend_thread_safe else self._of_thread
        found = getattr(place, "_backend", None)
        if found is None or found[0] is not store:
            from qcore.app.store_backend import StoreBackend

            place._backend = found = (store, StoreBackend(self._app))
        return found[1]

    def _result_scheme(self, url: str) -> tuple[str, str]:
        """The name of a store, and its URL without the name of Celery's backend (`db+`, `cache+`)."""
        if url in OTHER_SETTINGS:
            setting = OTHER_SETTINGS[url]
            if not self.conf[setting]:
                raise ConfigError(f"result_backend is '{url}', so the setting {setting} must have a URL")
            url = f"{'cache' if url == 'cache' else 'db'}+{self.conf[setting]}"
        scheme, separator, _ = url.partition("://")
        if scheme.startswith("cache") and not separator:
            url += "://"  # cache+memory
        if scheme.startswith("db+"):
            return "db", url[3:]
        if scheme.startswith("cache+"):
            return scheme, url[6:]
        return scheme.rstrip(":/"), url

    def _forked(self) -> None:
        """Drop the connections without closing them: a child must not write to its parent's sockets."""
        self._lock = threading.RLock()
        self._pid, self._consumes = os.getpid(), False
        self._broker = self._results = self._schedules = self._keeper = None
        self._after_fork()

    def reply_to(self) -> str | None:
        """The queue for results with the rpc result backend; None where results are stored. Raises
        UnknownName where no store has the name in result_backend: a call would have no result."""
        url = self.conf.result_backend
        if self._results is None and url != self._known_url:
            self._require_name(str(url))
            self._known_url = url
        if self._results is None and not str(url or "").startswith("rpc"):
            return None
        return self.results.reply_to()

    def _require_name(self, url: str) -> None:
        own = self.conf.override_backends or {}
        if url.partition("://")[0] in own or celery_backend(url) or _same_place(url, self.broker_url()):
            return
        scheme, _ = self._result_scheme(url)
        if scheme not in results.aliases and scheme not in results:
            raise UnknownName(results.kind, scheme, [*results.names(), *results.aliases])

    def close(self) -> None:
        """Close both connections; the next use opens new ones."""
        if self._pid == os.getpid():
            for thing in (self._results, self._broker, self._keeper):
                if thing is not None:
                    thing.close()
        self._broker = self._results = self._schedules = self._keeper = None
        self._form = None


def url_of_settings(conf: Config) -> Any:
    """broker_url with what the settings broker_port, broker_user, … say of its missing parts; None when
    it, broker_host and broker_transport are not set."""
    url: Any = conf.broker_url
    parts = (conf.broker_port, conf.broker_user, conf.broker_password, conf.broker_vhost)
    if not url and (conf.broker_host or conf.broker_transport):
        url = conf.broker_host or "localhost"
        url = url if "://" in url else f"{conf.broker_transport or 'amqp'}://{url}"
    if not isinstance(url, str) or "://" not in url:
        return url
    return filled(url, None, *parts)


def filled(url: str, host: Any, port: Any, user: Any, password: Any, path: Any) -> str:
    """A URL with the parts that it lacks; with several servers (`;`), or without a part, it is unchanged."""
    scheme, _, rest = url.partition("://")
    if ";" in url or not any((host, port, user, password, path)):
        return url
    from urllib.parse import quote, urlsplit  # 10 ms, rarely needed

    parts = urlsplit(f"any://{rest}")
    login, _, place = parts.netloc.rpartition("@")
    if not login and (user or password):
        login = quote(str(user or ""), "") + (f":{quote(str(password), '')}" if password else "")
        keep_secret(f"{scheme}://{login}@{place}")
    name, _, number = place.rpartition(":") if place.rpartition(":")[2].isdecimal() else (place, "", "")
    place = f"{name or host or 'localhost'}" + (f":{number or port}" if number or port else "")
    end = parts.path if parts.path.strip("/") or path in (None, "") else f"/{quote(str(path), '')}"
    query = f"?{parts.query}" if parts.query else ""
    return f"{scheme}://{login}{'@' if login else ''}{place}{end}{query}"


def consume(app: Any) -> None:
    """Have an app use broker_read_url in this process from now on, which becomes a worker."""
    app._connections.consume()


def _same_place(one: str, other: str) -> bool:
    def plain(url: str) -> str:
        if url.startswith(("redis://", "rediss://")):
            url = url.replace("localhost", "127.0.0.1", 1).rstrip("/")
            if url.count("/") == 2:
                url += "/0"
        return url

    return plain(one) == plain(other)


def schedules_of(app: Any) -> Any:
    """`app.schedules` (app/schedules.py). Raises ConfigError where no entries are kept."""
    from qcore.app.schedules import Schedules

    return Schedules(app, app._connections.schedules)


def backend_of(app: Any) -> Any:
    """`app.backend`: the results with the methods of Celery's backends."""
    return app._connections.backend
