"""`qctl report`: versions, platform and settings."""

from qctl.cli.command import command as page
from qctl.cli.session import current


@page(
    "report",
    examples=[
        ("qctl report", "versions and settings of this installation"),
        ("qctl -A proj report", "with the settings of an app that differ from the defaults"),
    ],
    see_also=["inspect report", "inspect conf"],
)
def command() -> None:
    """Print versions and settings for bug reports.

    Passwords and other secrets are hidden. The broker is not contacted.
    """
    session = current()
    session.patient = True  # show the app's own time-outs
    text = session.app.bugreport().strip()
    if session.out.for_people:
        session.out.text(text)
    else:
        session.out.document("report", {"text": text}, "text")
