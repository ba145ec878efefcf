"""Save the screen as two files for incident notes: SVG and text.

In:  the window.  Out: files in the current directory that only their owner can read, or a download if the
screen is a browser. The SVG loads nothing from other servers.
"""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from qctl.configuration.directories import write_private

if TYPE_CHECKING:
    from qctl.dashboard.screens.main import MainWindow

#: a template with rich's field names; see its Console.export_svg
SVG = """<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font: {char_height}px monospace; line-height: {line_height}px }}
.{unique_id}-title {{ font: bold 18px sans-serif }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix" xml:space="preserve">
{matrix}
</g>
</g>
</svg>
"""


def picture_of(window: MainWindow, title: str) -> tuple[str, str]:
    """The screen as SVG and as text."""
    console = Console(
        file=io.StringIO(),
        width=window.size.width,
        height=window.size.height,
        force_terminal=True,
        color_system="truecolor",
        record=True,
        legacy_windows=False,
    )
    # As in Textual's export_screenshot(), whose SVG loads its fonts from a server.
    console.print(window.screen._compositor.render_update(full=True))
    text = "\n".join(line.rstrip() for line in console.export_text(clear=False).rstrip("\n").split("\n"))
    return console.export_svg(title=title, code_format=SVG, font_aspect_ratio=0.6), f"{text}\n"


def save(window: MainWindow) -> str:
    """Write both files, or offer the SVG for download; return the outcome as text. Raises OSError."""
    name = f"qctl-{window.view.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    svg, text = picture_of(window, name)
    if window.is_web:
        window.deliver_text(io.StringIO(svg), save_filename=f"{name}.svg", mime_type="image/svg+xml")
        return f"{name}.svg is ready to download"
    # Private files: other users of this machine may have no access to the fleet.
    write_private(Path(f"{name}.svg"), svg)
    write_private(Path(f"{name}.txt"), text)
    return f"saved {name}.svg and .txt"
