"""Colours of the dashboard: enough contrast, and told apart by eyes that see few of them."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest

from qctl.dashboard.themes import LINES, ROLES, THEMES, Palette

Colour = tuple[float, float, float]

#: linear RGB as people see it who have no cone of one kind (Machado, Oliveira and Fernandes 2009, severity 1)
SEEN = {
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
STATES = [role for role in ROLES if role != "faint"]


def linear(style: str) -> Colour:
    digits = style.split()[-1].lstrip("#")
    values = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values)
    return red, green, blue


def contrast(one: str, other: str) -> float:
    """As the Web Content Accessibility Guidelines count it: 1 to 21."""
    darker, lighter = sorted(
        0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in (linear(one), linear(other))
    )
    return (lighter + 0.05) / (darker + 0.05)


def distance(one: Colour, other: Colour) -> float:
    """In Oklab, where 1 is from black to white."""
    return float(sum((a - b) ** 2 for a, b in zip(_oklab(one), _oklab(other), strict=True)) ** 0.5)


def _oklab(colour: Colour) -> Colour:
    to_cones = (
        (0.4122214708, 0.5363325363, 0.0514459929),
        (0.2119034982, 0.6806995451, 0.1073969566),
        (0.0883024619, 0.2817188376, 0.6299787005),
    )
    to_lab = (
        (0.2104542553, 0.7936177850, -0.0040720468),
        (1.9779984951, -2.4285922050, 0.4505937099),
        (0.0259040371, 0.7827717662, -0.8086757660),
    )
    red, green, blue = _times(to_cones, colour)
    return _times(to_lab, (red ** (1 / 3), green ** (1 / 3), blue ** (1 / 3)))


def _times(matrix: tuple[Colour, Colour, Colour], colour: Colour) -> Colour:
    first, second, third = (sum(a * b for a, b in zip(row, colour, strict=True)) for row in matrix)
    return first, second, third


def seen(style: str, eyes: str) -> Colour:
    red, green, blue = (min(max(value, 0.0), 1.0) for value in _times(SEEN[eyes], linear(style)))
    return red, green, blue


@pytest.mark.parametrize("palette", [p for p in THEMES.values() if not p.ansi], ids=lambda p: p.name)
def test_every_colour_can_be_read_on_its_ground(palette: Palette) -> None:
    least = 7.0 if palette.name == "high-contrast" else 4.5

    poor = {r: contrast(getattr(palette, r), palette.ground) for r in (*ROLES, "text")}

    assert {r: c for r, c in poor.items() if c < least} == {}


@pytest.mark.parametrize("palette", [p for p in THEMES.values() if not p.ansi], ids=lambda p: p.name)
def test_lines_and_bars_of_charts_stand_out_from_the_ground(palette: Palette) -> None:
    lines = {word: palette.style(word) for word in ("in", "done", "failed", "running", *LINES)}

    assert {word: c for word, c in lines.items() if contrast(c, palette.ground) < 3.0} == {}


@pytest.mark.parametrize("palette", [p for p in THEMES.values() if not p.ansi], ids=lambda p: p.name)
def test_percentiles_and_heat_rise_in_contrast(palette: Palette) -> None:
    for steps in ([palette.style(word) for word in LINES], palette.heat):
        contrasts = [contrast(step, palette.ground) for step in steps]
        assert contrasts == sorted(contrasts)
        assert all(after / before > 1.25 for before, after in pairwise(contrasts))


@pytest.mark.parametrize("eyes", list(SEEN))
def test_what_a_chart_shows_at_once_is_told_apart_by_these_eyes(eyes: str) -> None:
    palette = THEMES[eyes]
    colours = {word: seen(palette.style(word), eyes) for word in ("in", "done", "failed")}

    assert all(distance(colours[a], colours[b]) >= 0.1 for a, b in combinations(colours, 2))


@pytest.mark.parametrize("eyes", list(SEEN))
def test_states_are_told_apart_by_eyes_without_one_kind_of_cones(eyes: str) -> None:
    palette = THEMES[eyes]
    colours = {role: seen(getattr(palette, role), eyes) for role in STATES}

    too_near = {
        (a, b): distance(colours[a], colours[b])
        for a, b in combinations(STATES, 2)
        if distance(colours[a], colours[b]) < 0.1
    }

    assert too_near == {}
