"""Posts are written by tasks, and listed by a task that runs after them."""

from pathlib import Path

from celery import shared_task
from flask import current_app


def folder() -> Path:
    found = Path(current_app.config["FOLDER"])
    found.mkdir(parents=True, exist_ok=True)
    return found


@shared_task(ignore_result=False)
def publish(name: str, text: str) -> str:
    if not text:
        raise ValueError(f"the post {name} is empty")
    (folder() / f"{name}.txt").write_text(f"{current_app.config['TITLE']}: {text}\n")
    return name


@shared_task(bind=True, ignore_result=False)
def index(self, names: list[str]) -> int:
    lines = sorted(path.stem for path in folder().glob("*.txt"))
    (folder() / "index.html").write_text("\n".join(f"<li>{line}</li>" for line in lines))
    return len(names)


@shared_task
def remove(name: str) -> None:
    (folder() / f"{name}.txt").unlink(missing_ok=True)
