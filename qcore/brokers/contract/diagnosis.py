"""The part of the broker contract that finds problems, and says which guarantees hold: for `qctl doctor`.

In:  the state and the settings of the broker.  Out: symptoms, which can be mended by name; guarantees.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from qcore.errors import UnknownName

YES, NO, PARTLY, UNKNOWN = "yes", "no", "partly", "unknown"


class Guarantee(msgspec.Struct, frozen=True):
    """One guarantee of docs/guarantees.md."""

    name: str  # a stable word: 'durable-publish'
    holds: str  # yes, no, partly, unknown
    what: str  # one sentence: what holds, or the consequence of it not holding
    setting: str = ""  # the setting that decides it


DURABLE = "durable-publish"
CONFIRMED = "confirmed-publish"


ERROR, WARNING = "error", "warning"


class Symptom(msgspec.Struct, frozen=True):
    """One problem at the broker."""

    name: str  # a stable word: 'reply-queues'
    level: str  # error: loses tasks or leaks memory; warning: may do so
    what: str  # one sentence: what is wrong, and its consequence
    fix: str  # the command line that fixes it
    about: str = ""  # the queue, worker or task concerned


class ServerFacts(msgspec.Struct, frozen=True):
    """What a server, or a file, tells about itself; None and '': it does not say."""

    software: str = ""  # with its version
    role: str = ""  # primary, replica
    up_s: float | None = None  # since it was started, seconds
    replicas: int | None = None
    memory: int | None = None  # bytes in use
    memory_most: int | None = None  # the limit, bytes; 0: there is none
    memory_peak: int | None = None
    clients: int | None = None
    blocked: int | None = None  # clients that wait in a command
    commands: int | None = None  # since it was started
    keys: int | None = None  # in all of its databases
    evicted: int | None = None  # keys that it deleted for want of memory, since it was started
    refused: int | None = None  # connections, since it was started
    receives: int | None = None  # bytes per second
    sends: int | None = None
    storage: str = ""  # how it keeps its data, in one phrase
    file: int | None = None  # size of the file, bytes
    log: int | None = None  # of its write-ahead log


class Diagnosis:
    """Problems and guarantees of a broker."""

    def __init__(self, driver: str, fixed: Sequence[Guarantee] = ()) -> None:
        """driver: its name; fixed: the publishing guarantees of a driver where no setting changes them."""
        self._driver, self._fixed = driver, fixed

    def symptoms(self) -> list[Symptom]:
        """The problems at the broker, as far as they can be detected."""
        return []

    def guarantees(self) -> list[Guarantee]:
        """The publishing guarantees that hold here. Raises BrokerDown."""
        unknown = Guarantee(
            DURABLE, UNKNOWN, f"the broker {self._driver} does not report how it stores messages"
        )
        return list(self._fixed) or [unknown]

    def server(self) -> ServerFacts:
        """What the server tells about itself, in one request. Raises BrokerDown."""
        return ServerFacts()

    def cluster(self) -> str:
        """The nodes of a cluster, and which one has the data of the fleet, in one sentence; '' where there is
        no cluster. Raises BrokerDown."""
        return ""

    def mend(self, name: str) -> int:
        """Fix the symptom of that name; returns how many things were fixed. Raises UnknownName."""
        raise UnknownName("symptom that can be mended here", name, [])
