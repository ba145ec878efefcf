"""Bodies: values to bytes and back, by content type, with caps before allocation.

In:  a value and a serializer name, or bytes and a content type.  Out: the other one.
JSON follows kombu: types that JSON lacks are encoded as {"__type__": T, "__value__": V}.
YAML needs its extra. Pickle is read only where it is accepted by name, since it runs code that the sender has
chosen. What the project has registered with kombu (registered.py) comes before what is here.
"""

from __future__ import annotations

import binascii
import math
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import msgspec

from qcore.errors import ConfigError, EncodeError, Malformed, SecurityError, did_you_mean
from qcore.wire import registered

MAX_WIRE_BYTES = 16 * 1024 * 1024
MAX_INFLATED_BYTES = 64 * 1024 * 1024
MAX_RATIO = 100  # of inflated to compressed, above SMALL_BYTES
SMALL_BYTES = 1024 * 1024
MAX_DEPTH = 64
MAX_YAML_NODES = 150_000  # with what aliases stand for; counting them takes an eighth of a second

CONTENT_TYPES = {
    "json": ("application/json", "utf-8"),
    "yaml": ("application/x-yaml", "utf-8"),
    "msgpack": ("application/x-msgpack", "binary"),
    "pickle": ("application/x-python-serialize", "binary"),
    "raw": ("application/data", "binary"),
}
SERIALIZERS = {mime: name for name, (mime, _) in CONTENT_TYPES.items()}
JSON_ONLY = frozenset(("json",))


class _Anything(frozenset[str]):
    def __contains__(self, name: object) -> bool:
        return True


#: what this process itself has written is read whatever it is
ANYTHING = _Anything()

_fast_encode = msgspec.json.Encoder().encode
_fast_decode = msgspec.json.Decoder().decode


# --- JSON --------------------------------------------------------------------------------------


def to_json(value: Any) -> bytes:
    """`value` as JSON; raises EncodeError for values that JSON cannot represent."""
    if _is_plain(value):
        try:
            return _fast_encode(value)
        except (OverflowError, TypeError, msgspec.MsgspecError, UnicodeEncodeError):
            pass  # integers above 64 bits and the like: the standard library encodes them
    import json  # here and below: most messages do without

    try:
        return json.dumps(value, default=_typed, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise exc if isinstance(exc, EncodeError) else EncodeError(str(exc)) from exc


def from_json(raw: bytes | str) -> Any:
    """The value in JSON text; raises Malformed('not_json' | 'too_deep')."""
    data = raw.encode() if isinstance(raw, str) else raw
    try:
        if b"__type__" not in data:
            try:
                return _fast_decode(data)
            except msgspec.DecodeError:
                pass  # NaN, Infinity and huge integers: valid for Celery's clients
        import json

        return json.loads(data, object_hook=_untyped)
    except RecursionError as exc:
        raise Malformed("too_deep", "the JSON is nested too deeply") from exc
    except Malformed:
        raise
    except (ValueError, TypeError, ArithmeticError, LookupError) as exc:
        raise Malformed("not_json", str(exc)[:200]) from exc


class AsRead(list[Any]):
    """A list of values in JSON, as it was read: to_json() writes their texts as they are, and each is decoded
    when it is asked for."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        return map(_decoded, super().__iter__())

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return AsRead(found) if isinstance(place, slice) else _decoded(found)


def _decoded(value: Any) -> Any:
    return from_json(bytes(value)) if type(value) is msgspec.Raw else value


_ATOMS = frozenset((str, int, bool, type(None)))


def _is_plain(value: Any) -> bool:
    """Whether the fast encoder writes `value` exactly as the standard library would."""
    kind = type(value)
    if kind in _ATOMS:
        return True
    if kind is dict:
        for key in value:
            if type(key) is not str:
                return False
        value = value.values()
    elif kind is AsRead:
        return True
    elif kind is not list and kind is not tuple:
        return kind is float and math.isfinite(value)
    for one in value:  # noqa: SIM110  twice as fast as all() for the small values of messages
        if type(one) not in _ATOMS and not _is_plain(one):
            return False
    return True


def _typed(value: Any) -> Any:
    if type(value) is msgspec.Raw:
        return _decoded(value)
    if hasattr(value, "__json__"):
        return value.__json__()
    is_own, found = registered.to_json(value)
    if is_own:
        return found
    if isinstance(value, datetime):
        return {"__type__": "datetime", "__value__": value.isoformat()}
    if isinstance(value, date):
        return {"__type__": "date", "__value__": value.isoformat()}
    if isinstance(value, time):
        return {"__type__": "time", "__value__": value.isoformat()}
    if isinstance(value, Decimal):
        return {"__type__": "decimal", "__value__": str(value)}
    if isinstance(value, uuid.UUID):
        return {"__type__": "uuid", "__value__": {"hex": value.hex}}
    if isinstance(value, bytes):
        try:
            return {"__type__": "bytes", "__value__": value.decode()}
        except UnicodeDecodeError:
            return {"__type__": "base64", "__value__": binascii.b2a_base64(value, newline=False).decode()}
    if isinstance(value, set | frozenset):
        raise EncodeError(f"a {type(value).__name__} has no JSON form; send a list")
    raise EncodeError(f"an object of type {type(value).__name__} has no JSON form: {value!r:.80}")


_FROM_TYPED: dict[str, Callable[[Any], Any]] = {
    "datetime": datetime.fromisoformat,
    "date": lambda v: datetime.fromisoformat(v).date(),
    "time": time.fromisoformat,
    "decimal": Decimal,
    "uuid": lambda v: uuid.UUID(hex=v["hex"]),
    "bytes": lambda v: v.encode(),
    "base64": lambda v: binascii.a2b_base64(v.encode()),
}


def _untyped(found: dict[str, Any]) -> Any:
    if len(found) == 2 and "__type__" in found and "__value__" in found:
        kind = found["__type__"]
        read = (registered.from_json(kind) or _FROM_TYPED.get(kind)) if isinstance(kind, str) else None
        if read is None:
            raise Malformed("unknown_type", f"JSON type envelope {found['__type__']!r:.60}")
        return read(found["__value__"])
    return found


# --- serializers -------------------------------------------------------------------------------


def dumps(value: Any, serializer: str = "json") -> tuple[str, str, bytes]:
    """`value` as (content type, content encoding, bytes). Raises EncodeError, and ConfigError for a name that
    nobody has registered."""
    mime, encoding = CONTENT_TYPES.get(serializer, ("", ""))
    if not mime or "kombu.serialization" in sys.modules:
        own = registered.serializer(serializer, bool(mime))
        if own is not None:
            return _dumps_by(own, value)
    if serializer == "json":
        return mime, encoding, to_json(value)
    if not mime:
        raise _unknown(serializer)
    if serializer == "raw":
        return mime, encoding, value if isinstance(value, bytes) else str(value).encode()
    try:
        return mime, encoding, _ENCODERS[serializer](value)
    except ConfigError:
        raise
    except Exception as exc:  # of a third-party encoder, or of a class that pickle calls
        raise EncodeError(f"{serializer} cannot represent the value: {exc}") from exc


def is_own_json(serializer: str) -> bool:
    """Whether to_json() writes what this serializer writes: the project has registered no other JSON."""
    if serializer != "json":
        return False
    return "kombu.serialization" not in sys.modules or registered.serializer("json", True) is None


def _dumps_by(own: registered.Codec, value: Any) -> tuple[str, str, bytes]:
    """The same with a serializer that the project has registered with kombu."""
    assert own.encode is not None
    try:
        data = own.encode(value)
    except (ConfigError, SecurityError):
        raise
    except Exception as exc:  # of the project's own encoder
        raise EncodeError(f"the serializer '{own.name}' raised {exc!r}") from exc
    return own.content_type, own.content_encoding, data.encode() if isinstance(data, str) else data


def content_types(serializers: Iterable[str]) -> frozenset[str]:
    """The content types of serializers that are given by name or as content types."""
    return frozenset(CONTENT_TYPES.get(name, (name,))[0] for name in serializers)


def type_of(serializer: str) -> tuple[str, str]:
    """The content type and the encoding of a serializer; raises ConfigError for a name that nobody has
    registered."""
    own = registered.serializer(serializer, serializer in CONTENT_TYPES)
    if own is not None:
        return own.content_type, own.content_encoding
    if serializer not in CONTENT_TYPES:
        raise _unknown(serializer)
    return CONTENT_TYPES[serializer]


def _unknown(serializer: str) -> ConfigError:
    more = ", ".join(name for name in registered.names() if name not in CONTENT_TYPES) or "none"
    return ConfigError(
        f"no serializer named '{serializer}'; known: {', '.join(CONTENT_TYPES)}, and those registered "
        f"with kombu ({more})" + ("; auth needs app.setup_security()" if serializer == "auth" else "")
    )


def loads(
    raw: bytes,
    content_type: str,
    accept: frozenset[str] | None = None,
    content_encoding: str = "utf-8",
    setting: str = "accept_content",
) -> Any:
    """The value in `raw`; raises Malformed when the type is not accepted or the bytes do not match it.

    accept holds serializer names or content types; None accepts JSON only. setting: which says so.
    """
    name = SERIALIZERS.get(content_type)
    own = None
    if name is None or "kombu.serialization" in sys.modules:
        own = registered.reader(content_type, name is not None)
        name = own.name if own is not None else name
    allowed = accept if accept is not None else JSON_ONLY
    if name is None or (name not in allowed and content_type not in allowed):
        raise Malformed("content_disallowed", _refusal(name, content_type, allowed, setting))
    if name == "json" and own is None:
        return from_json(raw)
    try:
        if own is not None:
            assert own.decode is not None
            return own.decode(raw)
        return raw if name == "raw" else _DECODERS[name](raw)
    except RecursionError as exc:
        raise Malformed("too_deep", f"the {name} is nested too deeply") from exc
    except Malformed:
        raise
    except ConfigError as exc:  # its package is not installed
        raise Malformed("package_missing", str(exc)) from exc
    except SecurityError as exc:
        raise Malformed("not_verified", str(exc)[:200]) from exc
    except (Exception, SystemExit) as exc:  # a third-party parser: any exception means that it is wrong
        raise Malformed(f"not_{name}", (str(exc) or type(exc).__name__)[:200]) from exc


def _refusal(name: str | None, content_type: str, allowed: frozenset[str], setting: str) -> str:
    what = f"content type {content_type!r:.80}" + (f" ({name})" if name else "")
    if name is None:
        return f"{what}: no serializer is registered for it"
    hint = "; auth needs app.setup_security()" if name == "raw" and "auth" in allowed else ""
    return f"{what} is not accepted; {setting} names what is: {', '.join(sorted(allowed))}{hint}"


def check_accepted(names: Iterable[str]) -> None:
    """Raises ConfigError for a name in accept_content that no serializer has."""
    for name in names:
        if "/" in name or name in CONTENT_TYPES or registered.serializer(name, False) is not None:
            continue
        more = "; auth needs app.setup_security()" if name == "auth" else did_you_mean(name, CONTENT_TYPES)
        raise ConfigError(f"accept_content names '{name}', which is no serializer{more}")


def _dump_yaml(value: Any) -> bytes:
    text: str = _yaml().safe_dump(_plain(value))
    return text.encode()


def _plain(value: Any) -> Any:
    """The value with signatures and lists of qcore as what they are on the wire."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, AsRead) or type(value) in (list, tuple):
        return [_plain(one) for one in value]
    return value


def _dump_pickle(value: Any) -> bytes:
    from qcore.wire import pickles

    return pickles.dump(value)


def _load_pickle(raw: bytes) -> Any:
    from qcore.wire import pickles

    return pickles.load(raw)


def _load_yaml(raw: bytes) -> Any:
    """The value in YAML text. Its depth and what its aliases stand for are counted first, event by event, so
    that text which is costly to build is given up where that shows. Raises Malformed and yaml.YAMLError."""
    yaml = _yaml()
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = raw.decode()
    sizes: dict[str, int] = {}  # of what an anchor names, with all that its aliases stand for
    open_nodes: list[tuple[str | None, int]] = [(None, 0)]  # anchor, and size so far
    for event in yaml.parse(text, Loader=loader):
        kind, anchor = type(event).__name__, getattr(event, "anchor", None)
        if kind in ("SequenceStartEvent", "MappingStartEvent"):
            if len(open_nodes) > MAX_DEPTH:
                raise Malformed("too_deep", "the yaml is nested too deeply")
            open_nodes.append((anchor, 1))
            continue
        if kind in ("SequenceEndEvent", "MappingEndEvent"):
            anchor, size = open_nodes.pop()
        elif kind == "ScalarEvent":
            size = 1
        elif kind == "AliasEvent":
            if anchor not in sizes:
                raise Malformed("not_yaml", f"the alias {anchor!r:.40} refers to no anchor")
            size, anchor = sizes[anchor], None
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size
        open_nodes[-1] = (open_nodes[-1][0], open_nodes[-1][1] + size)
        if open_nodes[-1][1] > MAX_YAML_NODES:
            raise Malformed("too_large", f"the yaml expands to more than {MAX_YAML_NODES:,} values")
    return yaml.load(text, Loader=loader)  # a safe loader: plain values only


def _yaml() -> Any:
    try:
        import yaml  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise ConfigError("the yaml serializer needs PyYAML: install qctl[yaml]") from None
    return yaml


_ENCODERS: dict[str, Callable[[Any], bytes]] = {
    "yaml": _dump_yaml,
    "msgpack": msgspec.msgpack.encode,
    "pickle": _dump_pickle,
}
_DECODERS: dict[str, Callable[[bytes], Any]] = {
    "yaml": _load_yaml,
    "msgpack": msgspec.msgpack.decode,
    "pickle": _load_pickle,
}
