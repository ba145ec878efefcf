"""The picture of the README is one of the kept pictures, drawn as ctrl-s saves a screen.

To draw it again: QCORE_PICTURES=write python -m pytest tests/qctl/dashboard/test_readme_picture.py
"""

from __future__ import annotations

import io
import os
from xml.etree import ElementTree

from rich.console import Console
from rich.text import Text

from qctl.dashboard.screens.screenshot import SVG
from tests.support.processes import ROOT

KEPT = ROOT / "tests" / "qctl" / "dashboard" / "pictures" / "overview-120x40-dark.ansi"
PICTURE = ROOT / "docs" / "pictures" / "overview.svg"


def drawn(text: Text) -> str:
    console = Console(
        file=io.StringIO(),
        width=120,
        force_terminal=True,
        color_system="truecolor",
        record=True,
        legacy_windows=False,
    )
    console.print(text, no_wrap=True)
    return console.export_svg(title="qctl events", code_format=SVG, font_aspect_ratio=0.6, unique_id="qctl")


def test_the_picture_of_the_readme_shows_the_overview_of_today() -> None:
    text = Text.from_ansi(KEPT.read_text())
    if os.environ.get("QCORE_PICTURES") == "write":
        PICTURE.parent.mkdir(exist_ok=True)
        PICTURE.write_text(drawn(text))

    svg = PICTURE.read_text()

    shown = "".join(ElementTree.fromstring(svg).itertext()).replace("\xa0", " ")
    missing = [word for line in text.plain.splitlines() for word in line.split() if word not in shown]
    assert missing == [], "draw it again, as the first lines of this file say"
    assert "docs/pictures/overview.svg" in (ROOT / "README.md").read_text()
    assert svg.count("http") == 1, "only the name of the format, nothing is fetched"
