"""Control commands: `qctl inspect greeting` and `qctl control greet_with WORD`."""

from __future__ import annotations

from typing import Any

from qcore import control_command, inspect_command

words = {"greeting": "hello"}


@inspect_command
def greeting(worker: Any) -> Any:
    """How this worker greets."""
    return f"{words['greeting']} from {worker.node}"


@control_command(args=[("word", str)], signature="<word>")
def greet_with(worker: Any, word: str) -> Any:
    """Change how this worker greets."""
    words["greeting"] = word
    return {"ok": f"greets with {word}"}
