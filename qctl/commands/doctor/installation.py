"""`qctl doctor --local`: the mistakes of the installation, and packages that the app's settings need.

In:  the installed distributions; the settings of the app of -A, if one is given.  Out: Mistakes, each a
sentence with the command that fixes it. No broker is asked. Before this: local_checks.py.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import qcore

OURS = "qctl"
_PACKAGE = "qcore"


class Need(NamedTuple):
    """A package that a value of a setting needs: the module, the extra of qctl that brings it."""

    module: str
    extra: str
    settings: tuple[str, ...]
    is_needed: Callable[[Any], bool]


def _names(*words: str) -> Callable[[Any], bool]:
    return lambda value: any(w in words for w in ([value] if isinstance(value, str) else value or ()))


def _begins(*heads: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value.startswith(heads)


_SERIALIZERS = (
    "task_serializer result_serializer event_serializer accept_content result_accept_content".split()
)
_COMPRESSIONS = ("task_compression", "result_compression")
NEEDS = (
    Need("yaml", "yaml", (*_SERIALIZERS,), _names("yaml", "application/x-yaml")),
    Need("msgpack", "msgpack", (*_SERIALIZERS,), _names("msgpack", "application/x-msgpack")),
    Need("cryptography", "auth", (*_SERIALIZERS,), _names("auth", "application/data")),
    Need("zstandard", "zstd", _COMPRESSIONS, _names("zstd", "zstandard", "application/zstd")),
    Need("brotli", "brotli", _COMPRESSIONS, _names("brotli", "application/x-brotli")),
    Need("sqlalchemy", "sqlalchemy", ("result_backend",), _begins("db+", "database")),
    Need("pymemcache", "memcached", ("result_backend",), _begins("cache+memcache", "cache+py")),
    Need("gevent", "gevent", ("worker_pool",), _names("gevent")),
    Need("eventlet", "eventlet", ("worker_pool",), _names("eventlet")),
    Need("opentelemetry", "otel", ("tracing",), bool),
)


def missing_extras(conf: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The settings that need a package that is not installed: name of the setting, sentence."""
    for need in NEEDS:
        asking = [name for name in need.settings if need.is_needed(conf.get(name))]
        if asking and find_spec(need.module) is None:
            what = f"the setting {asking[0]} needs the package {need.module}, which is not installed"
            yield asking[0], f"{what}: pip install 'qctl[{need.extra}]'"


def foreign_packages(
    distributions: Callable[[], Mapping[str, list[str]]] = metadata.packages_distributions,
) -> Iterator[tuple[Path, str]]:
    """Other distributions with a package of our name, and files of ours that another one has replaced."""
    place = Path(qcore.__file__).parent
    fix = f"remove it, then `pip install --force-reinstall {OURS}`"
    others = sorted({name for name in distributions().get(_PACKAGE, ()) if name.lower() != OURS})
    for name in others:
        yield place, f"the distribution {name} has a package '{_PACKAGE}' too; {fix}"
    changed = [path for path, is_same in _recorded() if not is_same]
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        yield changed[0], f"{changed[0]}{more} is not the file that {OURS} installed; {fix}"


def _recorded() -> Iterator[tuple[Path, bool]]:
    """The files of our package that its distribution recorded, and whether each is as it was installed."""
    try:
        files = metadata.distribution(OURS).files or []
    except metadata.PackageNotFoundError:  # a checkout that is not installed
        return
    for file in files:
        if file.parts[:1] != (_PACKAGE,) or file.hash is None or file.suffix != ".py":
            continue
        path = Path(str(file.locate()))
        raw = path.read_bytes() if path.is_file() else b""
        digest = hashlib.new(file.hash.mode, raw).digest()
        yield path, base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == file.hash.value
