"""Charts as text: what each kind looks like, in braille, blocks and ASCII."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from textual.app import App, ComposeResult
from textual.geometry import Region

from qctl.dashboard.widgets.canvas import ASCII, BLOCKS, BRAILLE, Canvas, Layer, Span, nice_top, number
from qctl.dashboard.widgets.plot import Painting, Plot

START = 1_700_000_000.0  # 22:13:20


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_areas() -> None:
    drawn = {}
    for look in (BRAILLE, BLOCKS, ASCII):
        canvas = Canvas(6, 2, look)
        values = [0, 1, 2, 3, None, None, 5, 6, 7, 8, 8, 0.01]
        canvas.area(0, 0, 6, 2, [Layer(values[:: 2 // canvas.per_cell])], 8)
        drawn[look] = canvas.lines()

    assert drawn == {
        BRAILLE: ["   ⣠⣾⡇", "⢀⣴ ⣿⣿⣇"],
        BLOCKS: ["   ▂▆█", " ▄ ███"],
        ASCII: ["   .:#", " : ###"],
    }


def test_the_layer_in_front_has_its_colour_where_it_fills_half() -> None:
    canvas = Canvas(3, 1)

    canvas.area(0, 0, 3, 1, [Layer([8] * 6, "in"), Layer([8, 8, 4, 4, 1, 1], "done")], 8)

    assert canvas.lines() == ["⣿⣿⣿"]
    assert canvas.styles[0] == ["done", "done", "in"]


def test_failures_hang_below_the_axis() -> None:
    drawn = []
    for look in (BRAILLE, BLOCKS, ASCII):
        canvas = Canvas(4, 2, look)
        canvas.hanging(0, 0, 4, 2, Layer([0, 1, 2, 4, 8, 8, None, 1][:: 2 // canvas.per_cell]), 8)
        drawn.append(canvas.lines())

    assert drawn == [["⠈⢻⣿⠈", "  ⣿"], [" ▀█", "  █"], [" *#", "  #"]]


def test_a_line_has_a_gap_where_nothing_is_known() -> None:
    canvas = Canvas(6, 2)

    canvas.line(0, 0, 6, 2, [0, 0, 4, 8, 8, 8, None, None, 2, 2, 2, 2], 8, "")

    assert canvas.lines() == [" ⡸⠉", "⣀⠇  ⠒⠒"]


def test_a_heat_map_has_five_shades() -> None:
    canvas, plain = Canvas(5, 2), Canvas(5, 2, ASCII)
    columns = [[1, 0], [4, 0], [9, 1], None, [25, 25]]
    styles = [f"heat{n}" for n in range(1, 6)]

    canvas.heat(0, 0, 2, columns, styles)
    plain.heat(0, 0, 2, columns, styles)

    assert canvas.lines() == ["  ▒ █", "▒▓█ █"]
    assert plain.lines() == ["  : #", ":*# #"]
    assert canvas.styles[1] == ["heat2", "heat3", "heat4", "", "heat5"]


def test_strips_show_every_part_and_spans_their_times() -> None:
    canvas = Canvas(10, 2)

    canvas.strip(0, 0, 10, [(996, "█", "done"), (3, "▌", "bad"), (1, "?", "off"), (0, "x", "")])
    canvas.gantt(0, 1, 10, [Span(0, 5, "░"), Span(5, 14.9, "▓"), Span(15, 15, "✗")], 0, 20)

    assert canvas.lines() == ["████████▌?", "░░▓▓▓▓▓✗"]


def test_axes_name_the_top_the_unit_and_both_ends_of_time() -> None:
    canvas, plain = Canvas(50, 6), Canvas(50, 6, ASCII)
    for one in (canvas, plain):
        one.scale(0, 0, 4, 5, 600, "", "/s")
        one.time_axis(6, 4, 44, START, START + 900, "")

    assert canvas.lines() == [
        "600/s┤",
        "     │",
        "  300┤",
        "     │",
        "     ┼────┬────────┬────────┬────────┬────────┬───",
        "      22:13        22:18    22:21    22:24     now",
    ]
    assert plain.lines()[0] == "600/s+" and "".join(plain.lines()).isascii()


def test_text_is_made_safe_and_wide_characters_take_two_cells() -> None:
    canvas = Canvas(12, 3)

    end = canvas.text(0, 0, "日本\x1b[31m!")
    canvas.text(0, 1, "a long text that is cut")
    canvas.text(-0, 9, "outside")
    canvas.right(12, 2, "7 %")

    assert (end, canvas.lines()) == (12, ["日本\\x1b[31…", "a long text…", "         7 %"])


def test_a_frame_has_its_title_and_its_summary_in_the_edge() -> None:
    canvas, plain = Canvas(30, 3), Canvas(30, 3, ASCII)

    for one in (canvas, plain):
        one.frame(0, 0, 30, 3, "Queues", "5, 1,337 ready", "", "")

    assert canvas.lines() == [
        "╭ Queues ──── 5, 1,337 ready ╮",
        "│                            │",
        "╰────────────────────────────╯",
    ]
    assert plain.lines()[2] == "+----------------------------+"


def test_tops_are_round_and_numbers_short() -> None:
    assert [nice_top([v]) for v in (0.2, 1, 7, 11, 420, 6_500)] == [1, 1, 7, 12, 500, 7_000]
    assert nice_top([None], 5) == 5
    assert [nice_top([v], 0.01) for v in (0, 0.003, 0.07, 0.55, 3)] == pytest.approx([1, 0.01, 0.07, 0.6, 3])
    assert [number(v) for v in (0, 0.5, 600, 1_200, 2_500_000)] == ["0", "0.5", "600", "1.2k", "2.5M"]


# --- on the screen


def test_of_each_line_only_what_changed_is_painted() -> None:
    painting, first, second = Painting(), Canvas(80, 5), Canvas(80, 5)
    assert painting.put(first) is None
    assert painting.put(Canvas(80, 5)) == []

    second.text(3, 1, "ab")
    second.text(9, 1, "c")
    second.text(60, 1, "d")
    second.put(0, 4, " ", "bold")

    assert painting.put(second) == [Region(3, 1, 58, 1), Region(0, 4, 1, 1)]


def test_a_step_of_a_chart_changes_one_column() -> None:
    painting, values = Painting(), [5.0] * 99
    for latest in (0.0, 3.0, 6.0):
        canvas = Canvas(50, 6)
        canvas.area(0, 0, 50, 6, [Layer([*values, latest])], 8)
        changed = painting.put(canvas)

    assert changed is not None and 0 < sum(region.area for region in changed) <= 3


def test_a_plot_shows_its_canvas() -> None:
    class One(App[None]):
        def compose(self) -> ComposeResult:
            yield Plot(id="plot")

    async def script() -> list[str]:
        app = One()
        async with app.run_test(size=(12, 3)) as pilot:
            for text in ("hello", "hallo"):
                canvas = Canvas(12, 3)
                canvas.text(0, 1, text, "bold red")
                app.query_one(Plot).put(canvas)
                await pilot.pause()
            return ["".join(s.text for s in line) for line in app.screen._compositor.render_strips()]

    assert asyncio.run(script()) == [" " * 12, "hallo       ", " " * 12]
