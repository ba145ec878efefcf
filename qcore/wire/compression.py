"""Compression of message bodies, by Celery's names."""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import Any

from qcore.errors import ConfigError, Malformed
from qcore.wire.content import MAX_INFLATED_BYTES, MAX_RATIO, SMALL_BYTES

COMPRESSIONS = {
    "gzip": "application/x-gzip",
    "zlib": "application/x-gzip",
    "bzip2": "application/x-bz2",
    "bz2": "application/x-bz2",
    "lzma": "application/x-lzma",
    "xz": "application/x-lzma",
}


def compress(raw: bytes, name: str) -> tuple[str, bytes]:
    """`raw` compressed, and the value of the `compression` header; raises ConfigError."""
    mime = COMPRESSIONS.get(name, name)
    if mime == "application/x-gzip":
        return mime, zlib.compress(raw)
    if mime == "application/x-bz2":
        return mime, bz2.compress(raw)
    if mime == "application/x-lzma":
        return mime, lzma.compress(raw)
    raise ConfigError(f"no compression named '{name}'; known: {', '.join(COMPRESSIONS)}")


def decompress(raw: bytes, mime: str) -> bytes:
    """`raw` decompressed, within the caps; raises Malformed."""
    most = min(MAX_INFLATED_BYTES, max(SMALL_BYTES, MAX_RATIO * len(raw)))
    inflate: Any
    if mime == "application/x-gzip":
        inflate = zlib.decompressobj()
    elif mime == "application/x-bz2":
        inflate = bz2.BZ2Decompressor()
    elif mime == "application/x-lzma":
        inflate = lzma.LZMADecompressor(memlimit=256 * 1024 * 1024)
    else:
        raise Malformed("compression_unknown", f"compression {mime!r:.80}")
    try:
        plain: bytes = inflate.decompress(raw, most + 1)
    except (zlib.error, OSError, lzma.LZMAError, EOFError, ValueError) as exc:
        raise Malformed("compression_broken", str(exc)[:200]) from exc
    if len(plain) > most:
        raise Malformed("too_large", f"{len(raw)} bytes inflate to more than {most}")
    if not inflate.eof:
        raise Malformed("compression_broken", "the compressed body ends too early")
    return plain
