"""The app of `qctl demo`: three small tasks."""

# mypy: disable-error-code="untyped-decorator"
# App.task takes options of many kinds, so its result has no type of its own.

import time

from qcore import App

app = App("demo")


@app.task(name="proj.add")
def add(x: float, y: float) -> float:
    """Add two numbers."""
    return x + y


@app.task(name="proj.nap")
def nap(seconds: float) -> float:
    """Sleep, to be visible as running."""
    time.sleep(seconds)
    return seconds


@app.task(name="proj.fail")
def fail(words: str = "as asked") -> None:
    """Raise an error."""
    raise ValueError(words)
