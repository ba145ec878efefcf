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
    settings = Settings(app)
    mine = [_at_least_once(settings), _crash_count(app, settings)]
    rest = [_lease(app, settings), _with_the_ack(app), _publish_once(app), _control(settings)]
    return Guarantees([mine[0], *app.broker.diagnosis.guarantees(), mine[1], *rest], settings.workers)


def _at_least_once(settings: Settings) -> Guarantee:
    late, again = settings.holds("task_acks_late"), settings.holds("task_reject_on_worker_lost")
    setting = settings.shown("task_acks_late")
    if late == YES and again != YES:
        what = "a task whose process dies is not run again"
        return Guarantee("at-least-once", again, what, settings.shown("task_reject_on_worker_lost"))
    what = {
        YES: "late acknowledgement (after the run) unless a task sets it: a crash repeats the run",
        NO: "early acknowledgement (before the run): at most once, a crash loses running tasks",
        PARTLY: "workers differ: some acknowledge early, and a crash of these loses running tasks",
    }[late]
    return Guarantee("at-least-once", late, what, setting)


def _crash_count(app: App, settings: Settings) -> Guarantee:
    number = " or ".join(str(v) for v in settings.values("task_max_deliveries"))
    what = f"a task that killed its process {number} times is dead-lettered (`qctl dead ls`)"
    counts = app.broker.features.lease
    if not counts:
        what = "each worker counts on its own:  " + what
    return Guarantee("crash-count", YES if counts else PARTLY, what, settings.shown("task_max_deliveries"))


def _lease(app: App, settings: Settings) -> Guarantee:
    setting = settings.shown("worker_lease")
    if app.broker.features.lease:
        length = " or ".join(f"{v} s" for v in settings.values("worker_lease"))
        return Guarantee(
            "lease", YES, f"deliveries of a dead worker are redelivered after about {length}", setting
        )
    what = "no leases: deliveries of a dead worker are redelivered when the broker closes its connection"
    return Guarantee("lease", NO, what)


def _with_the_ack(app: App) -> Guarantee:
    setting = "result_backend"
    if not app.results.keeps:
        return Guarantee("result-with-ack", NO, "results are not stored", setting)
    if app.results.in_broker:
        return Guarantee(
            "result-with-ack",
            YES,
            "result, follow-up messages and acknowledgement are one atomic write",
            setting,
        )
    what = "the result is written first, then the acknowledgement; a crash between them repeats the task"
    return Guarantee("result-with-ack", NO, what, setting)


def _publish_once(app: App) -> Guarantee:
    if app.broker.features.once:
        what = "a call with an idempotency_key is enqueued once"
        return Guarantee("idempotency-key", YES, what, "task_idempotency_expires")
    return Guarantee("idempotency-key", NO, "this broker does not support idempotency keys")


def _control(settings: Settings) -> Guarantee:
    keyed = [bool(conf.get("control_keys")) for conf in settings.confs]
    free = [
        conf.get("control_unsigned") or ("read" if keys else "allow")
        for conf, keys in zip(settings.confs, keyed, strict=True)
    ]
    setting = "control_keys, control_unsigned"
    if "allow" not in free:
        return Guarantee("signed-control", YES, "only holders of a control key can change workers", setting)
    what = "every client of the broker can stop workers and revoke tasks"
    if any(keyed):
        what += ", although control keys are set"
    return Guarantee("signed-control", NO if set(free) == {"allow"} else PARTLY, what, setting)
