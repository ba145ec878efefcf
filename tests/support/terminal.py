"""A real terminal: tmux, with keys as somebody types them. It ends with its test."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence

import pytest

from tests.support.waiting import wait_for


class Terminal:
    """One window of a tmux server of its own."""

    def __init__(self, size: tuple[int, int] = (80, 24)) -> None:
        self._name = f"qctl-{uuid.uuid4().hex[:8]}"
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", str(size[0]), "-y", str(size[1]), "sh")
        self._tmux("set", "-g", "default-terminal", "tmux-256color")
        self.pressed = 0
        wait_for(lambda: "".join(self.screen()).strip(), what="a prompt")

    def _tmux(self, *words: str) -> str:
        command = ["tmux", "-L", self._name, *words]
        env = {**os.environ, "PS1": "$ ", "TERM": "xterm-256color", "HISTFILE": ""}
        return subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout

    def run(self, *words: str) -> None:
        """Type a command line: Python with these words."""
        self.type(shlex.join([sys.executable, *words]))
        self.press("Enter")
        self.pressed = 0

    def type(self, text: str) -> None:
        self._tmux("send-keys", "-l", text)
        self.pressed += len(text)

    def press(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)
        self.pressed += len(keys)

    def screen(self) -> list[str]:
        return self._tmux("capture-pane", "-p").split("\n")

    def sees(self, *texts: str, not_this: Sequence[str] = (), timeout_s: float = 60.0) -> None:
        """Wait until all of these are on the screen, and none of those."""

        def seen() -> bool:
            screen = "\n".join(self.screen())
            return all(t in screen for t in texts) and not any(t in screen for t in not_this)

        try:
            wait_for(seen, timeout_s)
        except AssertionError:
            raise AssertionError("\n".join([f"not seen: {texts}", *self.screen()])) from None

    def path(self) -> int:
        """How many keys since the last path."""
        pressed, self.pressed = self.pressed, 0
        return pressed

    @property
    def is_alternate(self) -> bool:
        """Whether a program has the whole screen."""
        return self._tmux("display-message", "-p", "#{alternate_on}").strip() == "1"

    def close(self) -> None:
        subprocess.run(["tmux", "-L", self._name, "kill-server"], check=False, capture_output=True)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed and could not be")
    made = Terminal()
    yield made
    made.close()
