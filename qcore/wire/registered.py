"""What the project has registered with kombu: serializers, compressions, and types in JSON.

In:  a name, a content type, a value.  Out: the project's own encoder or decoder, or None.
kombu is never imported here for a name that is known without it: as long as nobody has imported it, nobody
has registered anything.
Before this: content.py and compression.py.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

#: where the functions are that kombu itself has registered
_KOMBUS = ("kombu.serialization", "kombu.utils.json", "yaml", "msgpack")
_COMPRESSORS = ("zlib", "bz2", "lzma", "brotli", "_brotli", "compression.zstd", "backports.zstd")


class Codec(NamedTuple):
    """A serializer that the project has registered."""

    name: str
    content_type: str
    content_encoding: str
    encode: Callable[[Any], Any] | None
    decode: Callable[[Any], Any] | None


def serializer(name: str, known: bool) -> Codec | None:
    """The project's serializer of this name; None where there is none, or it is kombu's own and `known`."""
    module = sys.modules.get("kombu.serialization")
    if module is None:
        if known:
            return None
        module = importlib.import_module("kombu.serialization")
    found = module.registry._encoders.get(name)
    if found is None or (known and _is_from(found.encoder, _KOMBUS)):
        return None
    mime, encoding, encode = found
    return Codec(name, mime, encoding, encode, module.registry._decoders.get(mime))


def reader(content_type: str, known: bool) -> Codec | None:
    """The project's serializer for messages of this type; None as in serializer()."""
    module = sys.modules.get("kombu.serialization")
    if module is None:
        return None
    decode = module.registry._decoders.get(content_type)
    if decode is None or (known and _is_from(decode, _KOMBUS)):
        return None
    return Codec(module.registry.type_to_name.get(content_type, ""), content_type, "", None, decode)


def names() -> list[str]:
    """The names of all serializers that kombu knows."""
    return sorted(importlib.import_module("kombu.serialization").registry._encoders)


def compressor(name: str, known: bool) -> tuple[str, Callable[[bytes], bytes]] | None:
    """The content type and the function of the project's compression of this name; None as above."""
    module = sys.modules.get("kombu.compression")
    if module is None:
        if known:
            return None
        module = importlib.import_module("kombu.compression")
    try:
        encode, mime = module.get_encoder(name)
    except KeyError:
        return None
    return None if known and _is_from(encode, _COMPRESSORS) else (mime, encode)


def decompressor(mime: str, known: bool) -> Callable[[bytes], bytes] | None:
    """The function that reads the project's compression of this content type; None as above."""
    module = sys.modules.get("kombu.compression")
    if module is None:
        return None
    try:
        decode: Callable[[bytes], bytes] = module.get_decoder(mime)
    except KeyError:
        return None
    return None if known and _is_from(decode, _COMPRESSORS) else decode


def to_json(value: Any) -> tuple[bool, Any]:
    """(True, what stands for the value in JSON), where a type of the project or a lazy text of Django says
    it; else (False, None). The order is kombu's."""
    django = sys.modules.get("django.utils.functional")
    if django is not None and isinstance(value, django.Promise):
        return True, str(value)
    module = sys.modules.get("kombu.utils.json")
    if module is not None:
        for kind, (marker, encode) in module._encoders.items():
            if isinstance(value, kind):
                found = encode(value)
                return True, found if marker is None else {"__type__": marker, "__value__": found}
    return False, None


def from_json(marker: str) -> Callable[[Any], Any] | None:
    """What reads values of a type of the project."""
    module = sys.modules.get("kombu.utils.json")
    return module._decoders.get(marker) if module is not None else None


def _is_from(function: Any, modules: tuple[str, ...]) -> bool:
    return getattr(function, "__module__", None) in modules
