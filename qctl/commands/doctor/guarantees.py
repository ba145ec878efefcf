"""Which guarantees of docs/guarantees.md hold here: `qctl doctor --guarantees`.

In:  an app.  Out: Guarantees: those of the broker, and those that follow from the settings of the workers
that answer, or of the app when none does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from qcore.brokers.contract.diagnosis import NO, PARTLY, YES, Guarantee

if TYPE_CHECKING:
    from qcore.app.app import App

ASK_S = 1.0


class Guarantees(NamedTuple):
    """promises: the guarantees; workers: how many reported their settings, 0: the app's were read."""

    promises: list[Guarantee]
    workers: int


class Settings:
    """The effective settings: of each worker that answered, or of the app."""

    def __init__(self, app: App) -> None:
        replies = app.control.ask("conf", {"with_defaults": True}, timeout_s=ASK_S).replies
        found = {n: c for n, c in replies.items() if isinstance(c, dict) and "task_max_deliveries" in c}
        self.workers = len(found)
        self.confs: list[Any] = list(found.values()) or [app.conf]

    def values(self, name: str) -> list[Any]:
        """The distinct values of a setting."""
        found: list[Any] = []
        for conf in self.confs:
            if (value := conf.get(name)) not in found:
                found.append(value)
        return found

    def holds(self, name: str, wrong: Any = False) -> str:
        """YES when no worker has the wrong value, NO when all have it, else PARTLY."""
        values = self.values(name)
        return YES if wrong not in values else NO if values == [wrong] else PARTLY

    def shown(self, name: str) -> str:
        return f"{name}={' or '.join(str(v) for v in self.values(name))}"


def guarantees(app: App) -> Guarantees:
    """Collect the guarantees. Raises BrokerDown."""
    app.broker.check()
    said = Settings(app)
    mine = [_at_least_once(said), _crash_count(app, said)]
    rest = [_lease(app, said), _with_the_ack(app), _publish_once(app), _control(said)]
    return Guarantees([mine[0], *app.broker.diagnosis.guarantees(), mine[1], *rest], said.workers)


def _at_least_once(said: Settings) -> Guarantee:
    late, again = said.holds("task_acks_late"), said.holds("task_reject_on_worker_lost")
    setting = said.shown("task_acks_late")
    if late == YES and again != YES:
        what = "a task whose process dies is not run again"
        return Guarantee("at-least-once", again, what, said.shown("task_reject_on_worker_lost"))
    what = {
        YES: "acknowledged after the run, unless a task says otherwise: a crash repeats it",
        NO: "acknowledged before the run: at most once, a crash loses what was running",
        PARTLY: "workers differ: some acknowledge before the run and lose what runs in a crash",
    }[late]
    return Guarantee("at-least-once", late, what, setting)


def _crash_count(app: App, said: Settings) -> Guarantee:
    number = " or ".join(str(v) for v in said.values("task_max_deliveries"))
    what = f"a task that killed its process {number} times is set aside (`qctl dead ls`)"
    counts = app.broker.features.lease
    if not counts:
        what = "each worker counts for itself: " + what
    return Guarantee("crash-count", YES if counts else PARTLY, what, said.shown("task_max_deliveries"))


def _lease(app: App, said: Settings) -> Guarantee:
    setting = said.shown("worker_lease")
    if app.broker.features.lease:
        length = " or ".join(f"{v} s" for v in said.values("worker_lease"))
        return Guarantee("lease", YES, f"what a dead worker held is run again after about {length}", setting)
    what = "no leases here: what a dead worker held comes back when the broker sees its connection end"
    return Guarantee("lease", NO, what)


def _with_the_ack(app: App) -> Guarantee:
    setting = "result_backend"
    if not app.results.keeps:
        return Guarantee("result-with-ack", NO, "results are kept nowhere", setting)
    if app.results.in_broker:
        return Guarantee(
            "result-with-ack", YES, "result, what follows and acknowledgement are one write", setting
        )
    what = "the result is written first, then the acknowledgement; a crash between them repeats the task"
    return Guarantee("result-with-ack", NO, what, setting)


def _publish_once(app: App) -> Guarantee:
    if app.broker.features.once:
        what = "a call with an idempotency_key is enqueued once"
        return Guarantee("idempotency-key", YES, what, "task_idempotency_expires")
    return Guarantee("idempotency-key", NO, "this broker keeps no idempotency keys")


def _control(said: Settings) -> Guarantee:
    keyed = [bool(conf.get("control_keys")) for conf in said.confs]
    free = [
        conf.get("control_unsigned") or ("read" if keys else "allow")
        for conf, keys in zip(said.confs, keyed, strict=True)
    ]
    setting = "control_keys, control_unsigned"
    if "allow" not in free:
        return Guarantee("signed-control", YES, "only who has a key may change workers", setting)
    what = "whoever reaches the broker may stop workers and revoke tasks"
    if any(keyed):
        what += ", although there are keys"
    return Guarantee("signed-control", NO if set(free) == {"allow"} else PARTLY, what, setting)
