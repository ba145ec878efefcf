"""Commands that packages bring for Celery's command line: entry points of the group celery.commands.

In:  a name that is no command of qctl.  Out: the click command of a package; its `ctx.obj` is a CLIContext,
as in Celery, with the app of -A. `import celery` means qcore while it is imported.
"""

from __future__ import annotations

import json
from typing import Any

import click

from qctl.cli.session import Session

GROUP = "celery.commands"


def command_of(name: str, session: Session) -> click.Command | None:
    """The command; None without one. Raises ConfigError for one that cannot be loaded, with its package."""
    from qcore.base.plugins import entry_points_of

    point = entry_points_of(GROUP).get(name)
    if point is None:
        return None
    from qcore.celery.install import install
    from qcore.errors import ConfigError

    install()
    found = point.load()
    if not isinstance(found, click.Command):
        raise ConfigError(f"'{point.value}' is no click command (entry point {name} of {GROUP})")
    found.context_settings = {**found.context_settings, "obj": CLIContext(session)}
    return found


class CLIContext:
    """What such a command finds in `ctx.obj`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.workdir, self.quiet = session.options.workdir, bool(session.options.quiet)
        self.no_color = bool(session.options.no_color)

    @property
    def app(self) -> Any:
        return self._session.app

    @property
    def OK(self) -> str:
        return self.style("OK", fg="green", bold=True)

    @property
    def ERROR(self) -> str:
        return self.style("ERROR", fg="red", bold=True)

    def style(self, message: Any = None, **looks: Any) -> str:
        return str(message) if self.no_color else click.style(message, **looks)

    def echo(self, message: Any = None, **looks: Any) -> None:
        click.echo(message, **looks)

    def secho(self, message: Any = None, **looks: Any) -> None:
        if self.no_color:
            looks = {"color": False, **{k: v for k, v in looks.items() if k in ("err", "nl", "file")}}
            click.echo(message, **looks)
        else:
            click.secho(message, **looks)

    def error(self, message: Any = None, **looks: Any) -> None:
        self.secho(message, **{**looks, "err": True})

    def pretty(self, value: Any) -> tuple[str, str]:
        """OK or ERROR, and the value as text."""
        if isinstance(value, dict) and "error" in value:
            return self.ERROR, str(value["error"])
        if isinstance(value, dict) and "ok" in value:
            return self.OK, str(value["ok"])
        return self.OK, value if isinstance(value, str) else json.dumps(value, indent=4, default=str)
