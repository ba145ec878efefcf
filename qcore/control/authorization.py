"""Authorization of control requests: the check of their seals and of the scope of their key.

In:  a request and the scope that its command needs.  Out: None, or the text of the refusal.
Before this: control/server.py.  Keys: control/keys.py; the form of a seal: wire/seal.py.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

from qcore.brokers.base import Broker
from qcore.control.keys import known_keys, unsigned
from qcore.settings.config import Config
from qcore.wire.control import Request
from qcore.wire.seal import Seal

log = logging.getLogger("qcore.control")

SKEW_S = 30.0  # largest accepted difference between the clocks of two hosts
LONGEST_S = 3600.0  # longest validity of a request
MOST_NONCES = 100_000
WARN_EVERY_S = 60.0

REFUSALS = {
    "unsigned": "it is not signed; sign it with a control key (QCTL_CONTROL_KEY or control_sign_key)",
    "bad_signature": "its signature is invalid; was it altered, or does the secret differ?",
    "unknown_key": "this worker has no key of that id; add it to control_keys",
    "expired": "its timestamp is outside the accepted window; are the clocks of both hosts right?",
    "replayed": "it is a replay: this request was received before",
    "too_old": "it was sent before this worker started; send it again",
    "wrong_scope": "the scope of its key does not allow it; use a key with a wider scope",
    "other_node": "it was signed for other recipients",
    "too_many": "the store of received nonces is full; try again later",
}


class Authorizer:
    """Authorizes the control requests of one worker. Only its control thread calls it."""

    def __init__(
        self, conf: Config, clock: Callable[[], float] = time.time, started_at: float | None = None
    ) -> None:
        """started_at: the start of the worker in epoch seconds; None: now. Raises ConfigError for malformed
        keys."""
        self.keys, self.unsigned = known_keys(conf), unsigned(conf)
        self._clock = clock
        self._started_at = clock() if started_at is None else started_at
        self._first_time: Callable[[str, float], bool] | None = None
        self._nonces: dict[str, float] = {}  # nonce -> end of its validity, epoch seconds
        self._warned: dict[str, float] = {}
        self.refused: Counter[str] = Counter()

    def remember_at(self, broker: Broker, node: str) -> None:
        """Record received nonces in the broker too, so that a later worker of this name refuses a replay.
        With a broker that cannot record them, only the time of issue protects a later worker."""
        if broker.features.once and self._checks:
            self._first_time = lambda nonce, ttl_s: broker.first_time(f"{node} {nonce}", ttl_s)

    def words(self) -> str:
        """The line of the start banner."""
        free = {
            "allow": "unsigned requests may do everything",
            "read": "unsigned requests may only read",
            "refuse": "signed only",
        }
        if not self.keys:
            return f"{free[self.unsigned]} (no control_keys)"
        return f"{len(self.keys)} key{'s' if len(self.keys) > 1 else ''}; {free[self.unsigned]}"

    def refusal(self, request: Request, scope: str) -> str | None:
        """The text of the refusal for the caller, or None if the request is authorized. A refusal is counted
        and logged. Raises BrokerError if the broker cannot be queried for a replay."""
        reason = self._reason(request, scope)
        if reason is None:
            return None
        self.refused[reason] += 1
        self._warn(request, reason, scope)
        return f"refused ({reason}): {request.method} needs the scope '{scope}', and {REFUSALS[reason]}"

    def may_ask(self, request: Request, scope: str) -> bool:
        """Whether the seal, or its absence, allows the request; replays are not checked. A refusal is counted
        and logged."""
        reason = self._unproven(request, scope)
        if reason is not None:
            self.refused[reason] += 1
            self._warn(request, reason, scope)
        return reason is None

    def _reason(self, request: Request, scope: str) -> str | None:
        reason = self._unproven(request, scope)
        if reason is not None or request.seal is None or not self._checks:
            return reason
        seal, now = request.seal, self._clock()
        if seal.nonce in self._nonces:
            return "replayed"
        until = seal.valid_until + SKEW_S
        if not self._remember(seal.nonce, until, now):
            return "too_many"
        return None if scope == "read" else self._received_by_another(seal, until - now)

    def _received_by_another(self, seal: Seal, ttl_s: float) -> str | None:
        """The reason if an earlier worker of this name may have executed the request, else None. One round
        trip. Raises BrokerError: a request that cannot be checked is not executed."""
        if self._first_time is None:
            return "too_old" if seal.issued_at < self._started_at else None
        if seal.issued_at < self._started_at - SKEW_S:
            return "too_old"
        is_first = self._first_time(seal.nonce, ttl_s)
        # An earlier worker cannot have received a request issued later, so the nonce was recorded by another
        # worker that runs under the same name; both execute the request.
        return "replayed" if not is_first and seal.issued_at <= self._started_at + 2 * SKEW_S else None

    @property
    def _checks(self) -> bool:
        """Whether seals are checked. Without keys and with control_unsigned=allow they are ignored: such a
        request was signed for other workers of the fleet."""
        return bool(self.keys) or self.unsigned != "allow"

    def _unproven(self, request: Request, scope: str) -> str | None:
        seal, now = request.seal, self._clock()
        if seal is None:
            if request.sealed:
                return "bad_signature"
            free = self.unsigned == "allow" or (self.unsigned == "read" and scope == "read")
            return None if free else "unsigned"
        if not self._checks:
            return None
        key = self.keys.get(seal.key)
        if key is None:
            return "unknown_key"
        if not seal.is_of(key.secret):
            return "bad_signature"
        if not seal.is_for(request.destination, request.pattern, request.matcher):
            return "other_node"
        if not seal.fits(request.body):
            return "bad_signature"
        if seal.issued_at > now + SKEW_S or not now - SKEW_S <= seal.valid_until < seal.issued_at + LONGEST_S:
            return "expired"
        return None if key.may(scope) else "wrong_scope"

    def _remember(self, nonce: str, until: float, now: float) -> bool:
        """Record a nonce; False if MOST_NONCES are recorded. None is dropped while its request is valid:
        that would allow a replay."""
        if len(self._nonces) >= MOST_NONCES:
            self._nonces = {n: t for n, t in self._nonces.items() if t >= now}
        if len(self._nonces) >= MOST_NONCES:
            return False
        self._nonces[nonce] = until
        return True

    def _warn(self, request: Request, reason: str, scope: str) -> None:
        """Log one line per reason and minute, so that a flood of requests does not flood the log."""
        now = self._clock()
        if now - self._warned.get(reason, float("-inf")) < WARN_EVERY_S:
            return
        self._warned[reason] = now
        key = f" by the key '{request.seal.key:.64}'" if request.seal is not None else ""
        log.warning(
            "a control request was refused (%s): %.64r%s, reply to %.64r: %s",
            reason,
            request.method,
            key,
            request.reply_key,
            REFUSALS[reason],
        )
