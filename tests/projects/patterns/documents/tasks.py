"""Take in documents, and file them."""

from typing import Any

from celery import chord, group, shared_task
from celery.utils.log import get_task_logger

logger = get_task_logger("documents")


@shared_task(bind=True, name="documents.take_in")
def take_in(self: Any, name: str, pages: int = 1) -> dict[str, Any]:
    logger.info("taking in %s", name)
    if not pages:
        raise ValueError(f"{name} is empty")
    return {"name": name, "pages": pages, "trigger": getattr(self.request, "trigger", None)}


@shared_task(name="documents.file_them")
def file_them(taken: Any) -> list[str]:
    return sorted(f"{one['name']}:{one['pages']}" for one in (taken if isinstance(taken, list) else [taken]))


@shared_task(name="documents.mail")
def mail(*args: Any) -> str:
    return f"mail {args!r}"


@shared_task(name="documents.regret")
def regret(request: Any, exc: BaseException, traceback: Any) -> None:
    from tests.projects.patterns import note

    note("regret", type(exc).__name__, request.task)


@shared_task(name="documents.tidy")
def tidy() -> str:
    return "tidy"


def calls() -> dict[str, Any]:
    """What the client does."""
    app = take_in.app
    head = [take_in.s(f"d{n}", n).set(headers={"trigger": f"t{n}"}) for n in (1, 2, 3)]
    filed = chord(head, file_them.s()).apply_async()
    single = take_in.apply_async(("one",), headers={"trigger": "hand"}, link=file_them.s())
    lost = chord([take_in.s("x", 0), take_in.s("y", 1)], file_them.s().on_error(regret.s())).apply_async()
    empty = take_in.apply_async(("none", 0), link_error=regret.s())
    many = group(tidy.si() for _ in range(3)).apply_async()
    expired = tidy.apply_async(expires=-1)
    found = {"filed": filed.get(timeout=90), "single": single.get(timeout=90), "many": many.get(timeout=90)}
    for name, result in {"lost": lost, "empty": empty, "expired": expired}.items():
        try:
            found[name] = result.get(timeout=90)
        except Exception as exc:
            found[name] = type(exc).__name__
    found["ping"] = [list(answer.values()) for answer in app.control.inspect().ping().values()]
    found["kept"] = app.conf.email_backend_of_another_package
    found["schedule"] = str(app.conf.beat_schedule["tidy"]["schedule"])
    return found
