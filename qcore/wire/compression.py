"""Compression of message bodies and stored results, by Celery's names.

In:  bytes and the name of a compression, or its content type.  Out: the other ones, within the caps.
zstd and brotli need their extras. What the project has registered with kombu comes before what is here.
"""

from __future__ import annotations

import importlib
import sys
import zlib
from typing import Any

from qcore.errors import ConfigError, EncodeError, Malformed
from qcore.wire import registered
from qcore.wire.content import MAX_INFLATED_BYTES, MAX_RATIO, SMALL_BYTES

GZIP, BZIP2, LZMA = "application/x-gzip", "application/x-bz2", "application/x-lzma"
BROTLI, ZSTD = "application/x-brotli", "application/zstd"

COMPRESSIONS = {
    "gzip": GZIP,
    "zlib": GZIP,
    "bzip2": BZIP2,
    "bzip": BZIP2,
    "bz2": BZIP2,
    "lzma": LZMA,
    "xz": LZMA,
    "brotli": BROTLI,
    "zstd": ZSTD,
    "zstandard": ZSTD,
}
_KNOWN = frozenset(COMPRESSIONS.values())
#: what a decompressor may allocate before it has read anything
WINDOW_BYTES = 128 * 1024 * 1024
#: the start of a stored result that is compressed, Celery's: then come the content type, a zero and the data
STORED = b"\x00celery-compressed\x00"


def compress(raw: bytes, name: str) -> tuple[str | None, bytes]:
    """`raw` compressed, and the value of the `compression` header; raises ConfigError. What would inflate to
    more than decompress() accepts stays as it is, with None."""
    mime, packed = _compress(raw, name)
    return (mime, packed) if len(raw) <= _most(packed) else (None, raw)


def _most(packed: bytes) -> int:
    return min(MAX_INFLATED_BYTES, max(SMALL_BYTES, MAX_RATIO * len(packed)))


def _compress(raw: bytes, name: str) -> tuple[str, bytes]:
    mime = COMPRESSIONS.get(name, name)
    if mime not in _KNOWN or "kombu.compression" in sys.modules:
        own = registered.compressor(name, mime in _KNOWN)
        if own is not None:
            try:
                return own[0], own[1](raw)
            except Exception as exc:  # of the project's own function
                raise EncodeError(f"the compression '{name}' raised {exc!r}") from exc
    if mime == GZIP:
        return mime, zlib.compress(raw)
    if mime == BZIP2:
        import bz2  # here and below: few projects use it

        return mime, bz2.compress(raw)
    if mime == LZMA:
        import lzma

        return mime, lzma.compress(raw)
    if mime == BROTLI:
        packed: bytes = _brotli().compress(raw)
        return mime, packed
    if mime == ZSTD:
        packed = _zstandard().ZstdCompressor().compress(raw)
        return mime, packed
    raise ConfigError(f"no compression named '{name}'; known: {', '.join(COMPRESSIONS)}")


def decompress(raw: bytes, mime: str) -> bytes:
    """`raw` decompressed, within the caps; raises Malformed."""
    most = _most(raw)
    if mime not in _KNOWN or "kombu.compression" in sys.modules:
        own = registered.decompressor(mime, mime in _KNOWN)
        if own is not None:
            return _by_own(own, raw, mime, most)
    read = _READERS.get(mime)
    if read is None:
        raise Malformed("compression_unknown", f"compression {mime!r:.80}")
    try:
        plain, is_complete = read(raw, most + 1)
    except Malformed:
        raise
    except ConfigError as exc:
        raise Malformed("package_missing", str(exc)) from exc
    except Exception as exc:  # each library has its own classes
        raise Malformed("compression_broken", str(exc)[:200]) from exc
    if len(plain) > most:
        raise _too_large(raw, most)
    if not is_complete:
        raise Malformed("compression_broken", "the compressed body ends too early")
    return plain


def decompress_stored(raw: bytes) -> bytes:
    """A stored result without its compression, if it has one; raises Malformed."""
    if not raw.startswith(STORED):
        return raw
    mime, _, packed = raw[len(STORED) :].partition(b"\x00")
    return decompress(packed, mime.decode("ascii", "replace"))


def compress_stored(raw: bytes, name: str) -> bytes:
    """What is stored of a result with result_compression; raises ConfigError."""
    mime, packed = compress(raw, name)
    return raw if mime is None else b"".join((STORED, mime.encode(), b"\x00", packed))


def _too_large(raw: bytes, most: int) -> Malformed:
    return Malformed("too_large", f"{len(raw)} bytes inflate to more than {most}")


def _by_own(own: Any, raw: bytes, mime: str, most: int) -> bytes:
    """By a function that the project has registered: only what comes out can be measured."""
    try:
        plain: bytes = own(raw)
    except Exception as exc:
        raise Malformed("compression_broken", f"{mime}: {exc!r}"[:200]) from exc
    if len(plain) > most:
        raise _too_large(raw, most)
    return plain


def _inflated(inflate: Any, raw: bytes, most: int) -> tuple[bytes, bool]:
    plain: bytes = inflate.decompress(raw, most)
    return plain, inflate.eof and not _refuse_rest(inflate.unused_data)


def _refuse_rest(rest: bytes) -> bool:
    if rest:
        raise Malformed("compression_broken", f"{len(rest)} bytes follow the end of the compressed body")
    return False


def _read_zlib(raw: bytes, most: int) -> tuple[bytes, bool]:
    return _inflated(zlib.decompressobj(), raw, most)


def _read_bzip2(raw: bytes, most: int) -> tuple[bytes, bool]:
    import bz2

    return _inflated(bz2.BZ2Decompressor(), raw, most)


def _read_lzma(raw: bytes, most: int) -> tuple[bytes, bool]:
    import lzma

    return _inflated(lzma.LZMADecompressor(memlimit=WINDOW_BYTES), raw, most)


def _read_brotli(raw: bytes, most: int) -> tuple[bytes, bool]:
    inflate = _brotli().Decompressor()
    parts: list[bytes] = []
    size, given = 0, raw
    while size < most:
        part = inflate.process(given, output_buffer_limit=most - size)
        given = b""
        parts.append(part)
        size += len(part)
        if inflate.is_finished() or not part:
            break
    return b"".join(parts)[:most], inflate.is_finished()


def _read_zstd(raw: bytes, most: int) -> tuple[bytes, bool]:
    zstandard = _zstandard()
    announced = zstandard.get_frame_parameters(raw).content_size
    if announced >= most and announced < zstandard.CONTENTSIZE_UNKNOWN:
        raise _too_large(raw, most - 1)
    inflate = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES)
    with inflate.stream_reader(raw) as reader:
        plain: bytes = reader.read(most)
    if len(plain) >= most:
        return plain, True
    # The reader does not tell whether the data ended too early; what it has read is small enough to repeat.
    again = inflate.decompressobj()
    again.decompress(raw)
    return plain, bool(again.eof) and not _refuse_rest(again.unused_data)


_READERS = {
    GZIP: _read_zlib,
    BZIP2: _read_bzip2,
    LZMA: _read_lzma,
    BROTLI: _read_brotli,
    ZSTD: _read_zstd,
}


def _brotli() -> Any:
    return _package("brotli", "brotli")


def _zstandard() -> Any:
    return _package("zstandard", "zstd")


def _package(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(f"the compression {extra} needs a package: install qctl[{extra}]") from None
