"""Ids of a million tasks without one object each: 16 bytes in a column, 8 in an index.

In:  ids as written in events.  Out: their keys, and their rows.
After this: table.py, which holds both.  An id that is not a UUID is stored as text beside its key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from mmap import ACCESS_COPY, mmap

KEY = 16
#: the cost of an id that is not a UUID, beside its key (bytes, measured)
ODD_BYTES = 250
_TAG_BITS = 24
_TAG = (1 << _TAG_BITS) - 1
_DIGITS = frozenset("0123456789abcdef")
_MOST_SLOTS = 1 << _TAG_BITS
#: a search text with fewer digits occurs in so many ids that each is checked
_FEW_DIGITS = 3


def uuid_key(uuid: str) -> bytes | None:
    """The 16 bytes of a UUID as it is usually written, None for any other id."""
    digits = uuid.replace("-", "")
    if len(uuid) != 36 or len(digits) != 32 or uuid[8:24:5] != "----":
        return None
    try:
        key = bytes.fromhex(digits)
    except ValueError:
        return None
    return key if key.hex() == digits else None


def odd_key(uuid: str) -> bytes:
    """The 16-byte key of an id that is not a UUID."""
    from hashlib import blake2b  # it imports OpenSSL's, and most ids are UUIDs

    return blake2b(uuid.encode("utf-8", "surrogatepass"), digest_size=KEY).digest()


def _uuid(key: bytes) -> str:
    digits = key.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


class Ids(Sequence[str]):
    """A column of ids. odd: the ids that are not UUIDs, by their keys; shared by the columns of a table."""

    __slots__ = ("_keys", "_odd")

    def __init__(self, odd: dict[bytes, str]) -> None:
        self._keys, self._odd = bytearray(), odd

    def __len__(self) -> int:
        return len(self._keys) // KEY

    def __getitem__(self, place: int) -> str:  # type: ignore[override]  # places only, no slices
        key = self.key(place)
        odd = self._odd.get(key)
        return _uuid(key) if odd is None else odd

    def key(self, place: int) -> bytes:
        """The key at a place; raises IndexError."""
        key = bytes(self._keys[place * KEY : place * KEY + KEY])
        if len(key) != KEY:
            raise IndexError(place)
        return key

    def keys(self, places: Iterable[int]) -> list[bytes]:
        """The keys of these places."""
        keys = bytes(self._keys)
        return [keys[at : at + KEY] for at in (place * KEY for place in places)]

    def has(self, place: int, key: bytes) -> bool:
        """Whether this key is at this place."""
        return self._keys[place * KEY : place * KEY + KEY] == key

    def append(self, key: bytes) -> None:
        self._keys += key

    def keep(self, staying: Sequence[int], first: int) -> None:
        """From the place `first` on, keep only the places in `staying`."""
        self._keys = self._keys[: first * KEY] + b"".join(self.keys(staying))

    def places_with(self, piece: str) -> Iterable[int]:
        """The places whose ids may contain this (lower-case) text."""
        digits, odd = piece.replace("-", ""), self._odd
        if len(digits) < _FEW_DIGITS:
            return range(len(self))
        found = [i for i, key in enumerate(self.keys(range(len(self)))) if key in odd] if odd else []
        if not _DIGITS.issuperset(digits):
            return found
        everything = self._keys.hex()
        at = everything.find(digits)
        while at >= 0:
            found.append(at // (2 * KEY))
            at = everything.find(digits, at + 1)
        return found


class Index:
    """Rows by key, in open addressing. A slot is 24 bits of the key's hash, then 40 bits of the row plus
    one, so the caller checks whether a row does hold the key. Pages never used take no memory."""

    __slots__ = ("_mask", "_slots", "_used")

    def __init__(self, rows: int) -> None:
        """rows: the expected number; more of them make the index grow, which takes a moment."""
        self._used = 0
        self._make(min(max(rows, 8), _MOST_SLOTS // 2))

    def _make(self, rows: int) -> None:
        size = 1 << (2 * rows - 1).bit_length()
        self._mask = size - 1
        # Copy on write: a forked child must not write into its parent's index.
        self._slots = memoryview(mmap(-1, 8 * size, access=ACCESS_COPY)).cast("Q")

    def find(self, key: bytes, holds: Callable[[int, bytes], bool]) -> int | None:
        """The row of a key, None if it is not present."""
        slot = self._slots[self._probe(key, holds)]
        return (slot >> _TAG_BITS) - 1 if slot else None

    def find_or_add(self, key: bytes, row: int, holds: Callable[[int, bytes], bool]) -> int:
        """The row of a key; if it has none, it gets `row`."""
        at = self._probe(key, holds)
        if slot := self._slots[at]:
            return (slot >> _TAG_BITS) - 1
        self._slots[at] = row + 1 << _TAG_BITS | hash(key) & _TAG
        self._used += 1
        if self._used * 4 > self._mask * 3:
            self._grow()
        return row

    def _probe(self, key: bytes, holds: Callable[[int, bytes], bool]) -> int:
        """The slot of a key, or the free slot where it belongs."""
        slots, mask, tag = self._slots, self._mask, hash(key) & _TAG
        at = tag & mask
        while (slot := slots[at]) and not (slot & _TAG == tag and holds((slot >> _TAG_BITS) - 1, key)):
            at = at + 1 & mask
        return at

    def move(self, keys: Iterable[bytes], rows: Iterable[int], to: Iterable[int]) -> None:
        """Change the rows of these keys from `rows` to `to`. Raises KeyError."""
        slots = self._slots
        for key, row, new in zip(keys, rows, to, strict=True):
            tag = hash(key) & _TAG
            slots[self._at(tag, row)] = new + 1 << _TAG_BITS | tag

    def remove(self, keys: Iterable[bytes], rows: Iterable[int]) -> None:
        """Remove keys. Keys displaced by them are moved forward, so that they are still found.
        Raises KeyError."""
        slots, mask = self._slots, self._mask
        for key, row in zip(keys, rows, strict=True):
            hole = at = self._at(hash(key) & _TAG, row)
            self._used -= 1
            while slot := slots[at := at + 1 & mask]:
                if (at - slot & mask) >= (at - hole & mask):
                    slots[hole], hole = slot, at
            slots[hole] = 0

    def _at(self, tag: int, row: int) -> int:
        slots, mask = self._slots, self._mask
        entry = row + 1 << _TAG_BITS | tag
        at = tag & mask
        while (slot := slots[at]) != entry:
            if not slot:
                raise KeyError(row)
            at = at + 1 & mask
        return at

    def _grow(self) -> None:
        old = self._slots
        self._make(self._mask + 1)
        slots, mask = self._slots, self._mask
        for slot in old:
            if slot:
                at = slot & mask & _TAG
                while slots[at]:
                    at = at + 1 & mask
                slots[at] = slot
