"""Colour themes of the dashboard: for dark and light terminals, for colour-blind people, for 16 colours.

In:  a theme's name.  Out: colours by the word of a state (words: output/state_styles.py), background and
text. The colours are Okabe and Ito's; the blue and the vermilion are lightened on dark backgrounds and all
are darkened on light ones, to a contrast of at least 4.5 to 1 (high-contrast: 7 to 1). A glyph and a word
always accompany a colour.
"""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from textual.theme import Theme


LINES = ("p50", "p95", "p99")
ROLES = ("queued", "reserved", "running", "done", "retrying", "failed", "revoked", "faint")


class Palette(NamedTuple):
    """Styles for the roles, in Rich's notation; `ansi`: the terminal's own sixteen colours."""

    name: str
    dark: bool
    ground: str
    text: str
    queued: str
    reserved: str
    running: str
    done: str
    retrying: str
    failed: str
    revoked: str
    faint: str
    ansi: bool = False
    #: borders; they are decoration, with a contrast of at least 3 to 1
    frame: str = "#5c6773"
    #: percentiles: one hue, three luminances
    p50: str = "#4586ae"
    p95: str = "#7cc4ea"
    p99: str = "#e6f6ff"
    #: five steps from few to many, of rising contrast to the ground
    heat: tuple[str, ...] = ("#1d2b3a", "#2d4a63", "#5d6f7a", "#a89f6b", "#fee838")

    def style(self, word: str) -> str:
        """The style for a state's word, or for a role of a chart; '' for the default."""
        role = _ROLE_OF.get(word, "")
        if word.startswith("heat"):
            step = int(word[4:]) - 1
            # On the step below it, a shade of blocks is seen as a colour of its own.
            return f"{self.heat[step]} on {self.heat[step - 1]}" if step else self.heat[0]
        return getattr(self, role) if role else ""


_ROLE_OF = {
    **{role: role for role in (*ROLES, *LINES, "frame")},
    "in": "reserved",
    "rejected": "revoked",
    "ended": "queued",
    "silent": "failed",
    "gone": "queued",
    "online": "done",
    "paused": "retrying",
}

_DARK = Palette(
    "default-dark",
    True,
    "#11151a",
    "#d6d9dd",
    "#999999",
    "#56B4E9",
    "bold #4DA3DD",
    "#00B383",
    "#E69F00",
    "bold #E8743B",
    "#CC79A7",
    "#8b9199",
)
_LIGHT = Palette(
    "default-light",
    False,
    "#ffffff",
    "#1b1f24",
    "#666666",
    "#00699e",
    "bold #0060a0",
    "#00705a",
    "#8a5a00",
    "bold #b04400",
    "#9a3f74",
    "#5f666e",
    frame="#8a929a",
    p50="#377ba3",
    p95="#175f8b",
    p99="#0b2c44",
    heat=("#eef1e0", "#d9cf9a", "#9a9a82", "#4d6076", "#00224e"),
)

THEMES: dict[str, Palette] = {
    palette.name: palette
    for palette in (
        _DARK,
        _LIGHT,
        Palette(
            "high-contrast",
            True,
            "#000000",
            "#ffffff",
            "#c0c0c0",
            "#7fd0ff",
            "bold #8cc8ff",
            "#40e0a8",
            "#ffc04d",
            "bold #ff9d70",
            "#f0a8d0",
            "#c8c8c8",
            frame="#808080",
            p50="#5fb0e0",
            p95="#a8dcff",
            p99="#ffffff",
        ),
        # In these two, all states differ as colour-blind people see them; test_themes.py simulates that.
        _DARK._replace(
            name="deuteranopia",
            reserved="#348cb2",
            running="bold #3d84ff",
            done="#1ad1ff",
            retrying="#ffff66",
            failed="bold #ff981a",
            revoked="#e8cfdf",
        ),
        _DARK._replace(
            name="tritanopia",
            reserved="#3492b2",
            running="bold #b8edff",
            done="#36e236",
            retrying="#ffd91a",
            failed="bold #ff1a21",
            revoked="#ff66fa",
        ),
        Palette(
            "ansi",
            True,
            "ansi_default",
            "ansi_default",
            "bright_black",
            "cyan",
            "bold blue",
            "green",
            "yellow",
            "bold red",
            "magenta",
            "dim",
            True,
            "dim",
            "blue",
            "cyan",
            "bright_white",
            ("bright_black", "blue", "cyan", "yellow", "bright_yellow"),
        ),
    )
}


def chosen(name: str | None) -> Palette:
    """The theme with this name, or of QCTL_THEME, or the one for the terminal's background. Raises KeyError
    for an unknown name."""
    name = name or os.environ.get("QCTL_THEME")
    if name:
        return THEMES[name]
    # Some terminals set COLORFGBG to 'text;background', as numbers of the sixteen colours.
    ground = os.environ.get("COLORFGBG", "").rpartition(";")[2]
    return THEMES["default-light" if ground in ("7", "15") else "default-dark"]


def textual_theme(palette: Palette) -> Theme:
    """The palette as a theme of Textual."""
    from textual.theme import BUILTIN_THEMES, Theme

    if palette.ansi:
        theme = BUILTIN_THEMES["ansi-dark"]
        variables = {**theme.variables, "frame": "ansi_bright_black", "faint": "ansi_bright_black"}
        return dataclasses.replace(theme, name=palette.name, variables=variables)
    bar, ground = palette.faint, palette.ground
    scrollbars = {f"scrollbar{state}": bar for state in ("", "-hover", "-active")}
    scrollbars |= {f"scrollbar-background{state}": ground for state in ("", "-hover", "-active")}
    return Theme(
        palette.name,
        primary=palette.running.split()[-1],
        warning=palette.retrying,
        background=palette.ground,
        foreground=palette.text,
        surface=palette.ground,
        panel=palette.ground,
        dark=palette.dark,
        variables={"frame": palette.frame, "faint": palette.faint, **scrollbars},
    )
