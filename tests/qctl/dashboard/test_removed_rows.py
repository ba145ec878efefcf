"""A row that an action removed stays, struck through, so that the next key does not hit its neighbour."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from qctl.dashboard.row_actions import RowAction
from qctl.dashboard.run_command import CommandResult
from qctl.dashboard.screens.keys import Dashboard
from qctl.dashboard.state import removed_rows
from qctl.dashboard.state.lazy_rows import LazyRows
from qctl.dashboard.state.removed_rows import RemovedRows
from tests.support.still import FAILURES, Still


class Numbers(LazyRows):
    """A lazy list that can find its items, as that of tasks."""

    def __init__(self, names: str) -> None:
        self.names = names

    def __len__(self) -> int:
        return len(self.names)

    def _item(self, position: int) -> Any:
        return self.names[position]

    def find(self, key: str) -> int | None:
        return self.names.find(key) if key in self.names else None


def screen(window: Dashboard) -> str:
    return "\n".join("".join(s.text for s in strip) for strip in window.screen._compositor.render_strips())


@pytest.mark.parametrize("keys", [("1", "tab"), ("5",)], ids=["overview", "failures"])
def test_a_second_retry_does_not_hit_the_neighbour(
    keys: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[RowAction] = []

    async def go() -> tuple[str, str, str]:
        feed = Still()
        window = Dashboard(feed)
        window._work = lambda act, place: done.append(act) or CommandResult(True, "1 retried")  # type: ignore[method-assign, func-returns-value]
        async with window.run_test(size=(120, 40)) as pilot:
            await pilot.press(*keys, "r")
            await pilot.pause()
            await pilot.press("y")
            await window.workers.wait_for_complete()
            feed.changes = {"failures": FAILURES[1:]}
            window.redraw()
            await pilot.pause()
            struck = screen(window)
            await pilot.press("r", "y")
            await pilot.pause()
            refused = str(window.message_line.render()) + type(window.screen).__name__
            monkeypatch.setattr(removed_rows, "STAY_S", 0.0)
            window.removed.forget()
            window.redraw()
            await pilot.pause()
            return struck, refused, screen(window)

    struck, refused, after = asyncio.run(go())

    assert len(done) == 1 and "shop.charge" in done[0].line
    assert "✗" in struck and "shop.charge" in struck and "Timeout" in struck
    assert "copied" in refused and "Screen" in refused  # y alone copies
    assert "shop.send_mail" in after and "✗shop" not in after


def test_rows_of_a_lazy_list_keep_their_places() -> None:
    removed = RemovedRows()
    removed.hold([("b", "b", 1), ("d", "d", 3)], 0.0)

    before = removed.splice(Numbers("abcde"), str, 1.0)
    during = removed.splice(Numbers("ace"), str, 2.0)
    found = [during.find(key) for key in "abcdex"]  # type: ignore[attr-defined]
    after = removed.splice(Numbers("ace"), str, 2.0 + removed_rows.STAY_S)

    assert list(before) == list("abcde")
    assert (list(during), found) == (list("abcde"), [0, 1, 2, 3, 4, None])
    assert list(after) == list("ace") and removed.gone == frozenset()
