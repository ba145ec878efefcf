"""The driver of a dashboard that a browser shows.

In:  packets from two threads of one process: the first draws the screen, the one that reads the keys sends
files that the browser downloads.  Out: packets on the pipe to the server, one after the other.

os.write() to a pipe that is full waits in the middle of a packet, and the other thread would write there.
The server, which reads the length of each packet, could then read no further one.
"""

from __future__ import annotations

import threading
from typing import Any

from textual.app import App
from textual.drivers.web_driver import WebDriver


class SerialWebDriver(WebDriver):
    """Textual's driver for browsers, whose threads wait for each other's packet."""

    def __init__(
        self,
        app: App[Any],
        *,
        debug: bool = False,
        mouse: bool = True,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        self._packet = threading.Lock()

    def write(self, data: str) -> None:
        with self._packet:
            super().write(data)

    def write_meta(self, data: dict[str, object]) -> None:
        with self._packet:
            super().write_meta(data)

    def write_binary_encoded(self, data: tuple[str | bytes, ...]) -> None:
        with self._packet:
            super().write_binary_encoded(data)


#: the value of TEXTUAL_DRIVER that chooses it
DRIVER = f"{__name__}:{SerialWebDriver.__name__}"
