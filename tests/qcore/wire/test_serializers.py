"""Serializers and compressions: the same bytes as kombu's, what a project registers, and caps."""

from __future__ import annotations

import bz2
import json
import lzma
import os
import pickle
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import brotli  # type: ignore[import-untyped, unused-ignore]
import kombu.compression
import kombu.serialization
import kombu.utils.json as kombu_json
import pytest
import yaml
import zstandard

from qcore.errors import ConfigError, EncodeError, Malformed
from qcore.tasks.signature import Signature
from qcore.wire import compression, content

EVERYTHING = frozenset(("json", "yaml", "msgpack", "pickle"))
BODY = ([1, 2.5, "é", None, True], {"a": [{"b": "c"}]}, {"callbacks": None, "chain": None})
LISTED = json.loads(json.dumps(BODY))


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    """What a test registers with kombu is gone after it."""
    registry = kombu.serialization.registry
    kept = (
        registry._encoders,
        registry._decoders,
        registry.type_to_name,
        registry.name_to_type,
        kombu.compression._encoders,
        kombu.compression._decoders,
        kombu.compression._aliases,
        kombu_json._encoders,
        kombu_json._decoders,
    )
    copies = [dict(one) for one in kept]
    yield
    for one, copy in zip(kept, copies, strict=True):
        one.clear()
        one.update(copy)


@pytest.mark.parametrize("name", sorted(EVERYTHING))
def test_kombu_reads_what_is_written_and_the_other_way_round(name: str) -> None:
    mime, encoding, raw = content.dumps(BODY, name)
    theirs_mime, theirs_encoding, theirs = kombu.serialization.dumps(BODY, serializer=name)

    read = kombu.serialization.loads(raw, mime, encoding, accept={mime})
    ours = content.loads(theirs.encode() if isinstance(theirs, str) else theirs, theirs_mime, EVERYTHING)

    assert (mime, encoding) == (theirs_mime, theirs_encoding)
    assert json.loads(json.dumps(read)) == json.loads(json.dumps(ours)) == LISTED


@pytest.mark.parametrize("name", ["yaml", "msgpack", "pickle"])
def test_a_type_that_is_not_accepted_is_named_with_what_is(name: str) -> None:
    mime, _, raw = content.dumps(BODY, name)

    with pytest.raises(Malformed, match=rf"\({name}\) is not accepted; accept_content names what is: json$"):
        content.loads(raw, mime)
    assert content.loads(raw, mime, frozenset((mime,))) is not None


@pytest.mark.parametrize("name", ["yaml", "msgpack", "pickle"])
def test_signatures_and_chains_are_plain_values_in_every_serializer(name: str) -> None:
    sig = Signature("t", (1,), {})
    value = [content.AsRead([sig]), {"link": sig}]

    mime, encoding, raw = content.dumps(value, name)
    read = kombu.serialization.loads(raw, mime, encoding, accept={mime})

    assert type(read[0]) is list and type(read[1]["link"]) is dict
    assert read[1]["link"]["task"] == "t"


class Unpicklable:
    def __reduce__(self) -> Any:
        raise TypeError("not this one")


def test_a_value_that_a_serializer_cannot_represent_is_an_encode_error() -> None:
    for name in ("yaml", "pickle", "msgpack"):
        with pytest.raises(EncodeError, match=name):
            content.dumps([Unpicklable()], name)


def test_an_exit_in_a_pickle_is_a_malformed_body() -> None:
    class Ends:
        def __reduce__(self) -> Any:
            return exit, (3,)

    with pytest.raises(Malformed, match="not_pickle"):
        content.loads(pickle.dumps(Ends()), "application/x-python-serialize", EVERYTHING)


def test_a_serializer_of_the_project_is_used_by_its_name_and_content_type() -> None:
    kombu.serialization.register(
        "signed", lambda v: b"!" + pickle.dumps(v), lambda r: pickle.loads(r[1:]), "app/x-s", "binary"
    )

    mime, encoding, raw = content.dumps(BODY, "signed")

    assert (mime, encoding, raw[:1]) == ("app/x-s", "binary", b"!")
    assert content.loads(raw, mime, frozenset(("signed",))) == BODY
    assert content.loads(raw, mime, frozenset(("app/x-s",))) == BODY
    with pytest.raises(Malformed, match="not accepted"):
        content.loads(raw, mime)
    with pytest.raises(Malformed, match="not_signed"):
        content.loads(b"!x", mime, frozenset(("signed",)))


def test_a_json_of_the_project_replaces_ours() -> None:
    kombu.serialization.register(
        "json", lambda v: json.dumps({"v": v}), lambda r: json.loads(r)["v"], "application/json", "utf-8"
    )

    _, _, raw = content.dumps([1], "json")

    assert json.loads(raw) == {"v": [1]}
    assert content.loads(raw, "application/json") == [1]


def test_an_unknown_serializer_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"no serializer named 'jsn'; known: json.*registered with kombu \(none\)"
    ):
        content.dumps([1], "jsn")
    with pytest.raises(ConfigError, match=r"auth needs app\.setup_security\(\)"):
        content.dumps([1], "auth")


class Point:
    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and other.x == self.x


def test_types_that_the_project_has_registered_go_through_json_as_in_kombu() -> None:
    kombu_json.register_type(Point, "point", lambda p: p.x, Point)
    kombu_json.register_type(complex, None, str)
    kombu_json.register_type(datetime, "datetime", lambda d: d.year, lambda y: datetime(y, 1, 1))
    value = [Point(3), 1j, datetime(2026, 5, 5), b"\xff", 7]

    raw = content.to_json(value)

    assert json.loads(raw) == json.loads(kombu_json.dumps(value))
    assert (
        content.from_json(raw) == kombu_json.loads(raw) == [Point(3), "1j", datetime(2026, 1, 1), b"\xff", 7]
    )


def test_lazy_texts_of_django_and_objects_with_a_json_method_are_written() -> None:
    from django.utils.functional import lazystr

    class Own(datetime):
        def __json__(self) -> str:
            return "own"

    value = {"a": lazystr("later"), "b": [Own(2026, 1, 1)]}

    assert (
        json.loads(content.to_json(value))
        == json.loads(kombu_json.dumps(value))
        == {"a": "later", "b": ["own"]}
    )


# --- compression


@pytest.mark.parametrize("name", sorted(compression.COMPRESSIONS))
@pytest.mark.parametrize("raw", [b"", b"x", b"abc" * 300_000])
def test_what_is_compressed_is_read_again(name: str, raw: bytes) -> None:
    mime, packed = compression.compress(raw, name)

    assert mime is not None and compression.decompress(packed, mime) == raw
    stored = compression.compress_stored(raw, name)
    assert compression.decompress_stored(stored) == raw


@pytest.mark.parametrize("name", ["gzip", "zlib", "bzip2", "bzip", "lzma", "xz", "brotli"])
def test_kombu_reads_what_is_compressed_and_the_other_way_round(name: str) -> None:
    mime, packed = compression.compress(b"abc" * 99, name)
    assert mime is not None
    theirs, theirs_mime = kombu.compression.compress(b"abc" * 99, name)

    assert mime == theirs_mime
    assert kombu.compression.decompress(packed, mime) == b"abc" * 99
    assert compression.decompress(theirs, mime) == b"abc" * 99


@pytest.mark.parametrize("name", ["gzip", "bzip2", "lzma", "brotli", "zstd"])
def test_damaged_and_truncated_data_is_malformed(name: str) -> None:
    mime, packed = compression.compress(bytes(range(256)) * 50, name)
    assert mime is not None

    for bad in (packed[:-5], packed[: len(packed) // 2], b"nonsense", b""):
        with pytest.raises(Malformed, match="compression_broken"):
            compression.decompress(bad, mime)


@pytest.mark.parametrize("name", ["gzip", "bzip2", "lzma", "zstd", "brotli"])
def test_what_would_inflate_too_much_is_sent_as_it_is(name: str) -> None:
    raw = bytes(20_000_000)

    assert compression.compress(raw, name) == (None, raw)
    assert compression.compress_stored(raw, name) == raw


def test_zstd_that_does_not_announce_its_size_is_read() -> None:
    stream = zstandard.ZstdCompressor().compressobj()
    packed = stream.compress(b"abc" * 50_000) + stream.flush()

    assert compression.decompress(packed, compression.ZSTD) == b"abc" * 50_000
    with pytest.raises(Malformed, match="compression_broken"):
        compression.decompress(packed[:-4], compression.ZSTD)


def test_a_compression_of_the_project_is_used() -> None:
    kombu.compression.register(lambda b: b[::-1], lambda b: b[::-1], "app/x-back", ["back", "gzip"])
    kombu.compression.register(lambda b: b, lambda b: b"0" * 99_000_000, "app/x-bomb", ["bomb"])

    assert compression.compress(b"abc", "back") == ("app/x-back", b"cba")
    assert compression.compress(b"abc", "gzip") == ("app/x-back", b"cba")
    assert compression.decompress(b"cba", "app/x-back") == b"abc"
    with pytest.raises(Malformed, match="too_large"):
        compression.decompress(b"x", "app/x-bomb")
    with pytest.raises(ConfigError, match="no compression named 'nobody'"):
        compression.compress(b"x", "nobody")


# --- caps

ZEROS = 1 << 27


def _chunks(one: Callable[[bytes], bytes], end: Callable[[], bytes]) -> bytes:
    block = bytes(1 << 22)
    return b"".join(one(block) for _ in range(ZEROS // len(block))) + end()


def _zlib() -> bytes:
    squeeze = zlib.compressobj(9)
    return _chunks(squeeze.compress, squeeze.flush)


def _bzip2() -> bytes:
    return bz2.compress(bytes(1 << 26))


def _bzip2_streams() -> bytes:
    return bz2.compress(bytes(900_000)) * 1000  # one behind the other


def _lzma() -> bytes:
    return lzma.compress(bytes(1 << 26), preset=0)


def _brotli() -> bytes:
    squeeze = brotli.Compressor(quality=1)
    return _chunks(squeeze.process, squeeze.finish)


def _zstd() -> bytes:
    squeeze = zstandard.ZstdCompressor().compressobj(size=ZEROS)
    return _chunks(squeeze.compress, squeeze.flush)


def _zstd_stream() -> bytes:
    squeeze = zstandard.ZstdCompressor().compressobj()
    return _chunks(squeeze.compress, squeeze.flush)


def _zstd_window() -> bytes:
    """A frame whose header asks for a window of 2 GB, or more."""
    return b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([(31 - 10) << 3]) + b"\x02\x00\x80" * 1000


COMPRESSED = {
    "gzip": _zlib,
    "bzip2": _bzip2,
    "bz2": _bzip2_streams,
    "lzma": _lzma,
    "brotli": _brotli,
    "zstd": _zstd,
    "zstandard": _zstd_stream,
    "window": _zstd_window,
}

LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(20)
)
BODIES = {
    "yaml with aliases": ("yaml", LAUGHS.encode()),
    "nested yaml": ("yaml", b"[" * 200_000),
    "a wide yaml": ("yaml", b"[" + b"1," * 2_000_000 + b"]"),
    "nested json": ("json", b"[" * 1_000_000),
    "a msgpack list of 4 G": ("msgpack", struct.pack(">BI", 0xDD, 0xFFFFFFFF)),
    "a msgpack map of 4 G": ("msgpack", struct.pack(">BI", 0xDF, 0xFFFFFFFF)),
    "a msgpack text of 4 G": ("msgpack", struct.pack(">BI", 0xDB, 0xFFFFFFFF)),
    "msgpack bytes of 4 G": ("msgpack", struct.pack(">BI", 0xC6, 0xFFFFFFFF)),
    "nested lists of 4 G": ("msgpack", struct.pack(">BI", 0xDD, 0xFFFFFFFF) * 100_000),
    "nested msgpack": ("msgpack", b"\x91" * 1_000_000),
    "a pickle that nobody accepts": ("pickle", pickle.dumps(b"0" * 1000)),
}


def _refused(read: Callable[[], Any]) -> None:
    """In a child, whose largest size so far is its present one."""
    into, out = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            peak, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
            refused = False
            try:
                read()
            except Malformed:
                refused = True
            took = time.process_time() - began
            more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
            os.write(out, json.dumps([refused, took, more]).encode())
        finally:
            os._exit(0)
    os.close(out)
    os.waitpid(pid, 0)
    with open(into, "rb") as file:
        refused, took, more = json.loads(file.read())

    assert refused
    assert took < 0.5  # seconds of CPU
    assert more < 40 * 1024  # KiB


@pytest.mark.parametrize("name", sorted(COMPRESSED))
def test_a_bomb_in_any_compression_is_refused_early(name: str) -> None:
    packed = COMPRESSED[name]()
    mime = compression.COMPRESSIONS.get(name, compression.ZSTD)

    _refused(lambda: compression.decompress(packed, mime))


@pytest.mark.parametrize("what", sorted(BODIES))
def test_a_bomb_in_any_serializer_is_refused_early(what: str) -> None:
    name, raw = BODIES[what]
    accepted = EVERYTHING - {"pickle"}

    _refused(lambda: content.loads(raw, content.CONTENT_TYPES[name][0], accepted))


def test_a_large_body_within_the_caps_is_read() -> None:
    text = yaml.safe_dump(list(range(20_000)))
    assert len(content.loads(text.encode(), "application/x-yaml", EVERYTHING)) == 20_000


PLAIN = """
import sys
import qcore, qcore.worker.worker, qcore.brokers.redis.broker
from qcore.wire import content, task
raw = task.build("t", (1,), {"when": __import__("datetime").datetime.now()}, task_id="i", compression="gzip")
task.read_body(task.read(raw))
content.check_accepted(["json", "yaml", "pickle"])
print([m for m in ("kombu", "pickle", "yaml", "brotli", "zstandard", "cryptography") if m in sys.modules])
"""


def test_a_worker_that_needs_none_of_them_imports_no_further_library() -> None:
    done = subprocess.run([sys.executable, "-c", PLAIN], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
