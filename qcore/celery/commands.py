"""Celery's `celery.bin.base`: what commands that packages bring for Celery's command line are made of.

In:  click's commands and options, and an app.  Out: the same, with Celery's additions; `ctx.obj` is a
CLIContext. `qctl NAME` runs such a command (entry points of the group celery.commands).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class CLIContext:
    """What such a command finds in `ctx.obj`."""

    def __init__(
        self, app: Any = None, no_color: bool = False, workdir: Any = None, quiet: bool = False
    ) -> None:
        """app: the app, or a function that loads it at its first use."""
        self._app, self.no_color, self.workdir, self.quiet = app, no_color, workdir, quiet

    @property
    def app(self) -> Any:
        return self._app() if callable(self._app) else self._app

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


class CeleryOption(click.Option):
    """An option with a heading for the help page; click's own help page has none."""

    def __init__(self, *args: Any, help_group: str | None = None, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.help_group = help_group


class CeleryCommand(click.Command):
    """A command of a package."""


def handle_preload_options(function: F) -> F:
    """`qctl` itself sends user_preload_options, so the function stays as it is."""
    return function
