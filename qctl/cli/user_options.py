"""Options that the user's app adds to commands (`app.user_options`), as in Celery.

In:  a command, and words with an option that it does not have, or a request for help.  Out: the command with
the app's options; their values, for the steps of a worker and for the signal user_preload_options.
The app is loaded for this only if an option is unknown, or for the help page of a command with -A.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from qcore.base.keywords import user_options
from qcore.pools import patch_for
from qctl.cli.global_options import GlobalOption
from qctl.cli.session import Session, session_of

if TYPE_CHECKING:
    from qcore.app.app import App

_ADDED, _SAID, _VALUES = (f"qctl.cli.user_options.{word}" for word in ("added", "said", "values"))


def program_of(ctx: click.Context) -> str:
    """The first word after `qctl`: worker, beat, events, …"""
    while ctx.parent is not None and ctx.parent.parent is not None:
        ctx = ctx.parent
    return ctx.info_name or ""


def add(command: click.Command, ctx: click.Context, args: list[str], loads: bool = True) -> bool:
    """Add the app's options to a command; whether there are any. loads: also when the app is named by a
    setting only. Raises what loading the app raises."""
    if ctx.parent is None or ctx.resilient_parsing or ctx.meta.get(_ADDED):
        return False
    parser: Any = command.make_parser(ctx)
    parser.ignore_unknown_options = parser.allow_interspersed_args = True
    given, _, _ = parser.parse_args(list(args))
    for param in command.params:
        if isinstance(param, GlobalOption) and param.name in given:
            param.handle_parse_result(ctx, given, [])
    session = session_of(ctx)
    if "app" not in session.__dict__:
        if loads:
            session.settle()
        if not session.options.app:
            return False
        patch_for(given.get("pool"))  # before the app is imported
    wanted = wanted_by(session.app, command, ctx)
    command.params += [option for option in wanted.values() if option not in command.params]
    ctx.meta[_ADDED] = True
    return bool(wanted)


def wanted_by(app: App, command: click.Command, ctx: click.Context) -> dict[str, click.Option]:
    """The options that the app adds to a command, by the names of their values. One that the command has
    itself is left out, with a warning."""
    found: dict[str, click.Option] = user_options(app, program_of(ctx))
    own = [param for param in command.params if param not in found.values()]
    words = {word for param in own for word in (param.name, *param.opts)}
    said: set[str] = ctx.meta.setdefault(_SAID, set())
    for name, option in list(found.items()):
        if not words.isdisjoint((name, *option.opts)):
            del found[name]
            if name not in said:
                said.add(name)
                session_of(ctx).out.warn(
                    f"{option.opts[0]} is an option of qctl here; that of the app has no effect"
                )
    return found


def take(ctx: click.Context) -> None:
    """Take the values of the app's options out of what the command's function gets."""
    app = session_of(ctx).__dict__.get("app")
    if app is not None and ctx.meta.get(_ADDED):
        names = wanted_by(app, ctx.command, ctx)
        ctx.meta[_VALUES] = {name: ctx.params.pop(name) for name in names if name in ctx.params}


def values(ctx: click.Context, app: App) -> dict[str, Any]:
    """The values of all options that the app adds to this program; defaults where one is not given."""
    found: dict[str, Any] = dict(ctx.meta.get(_VALUES, {}))
    for name, option in wanted_by(app, ctx.command, ctx).items():
        if name not in found:
            option.handle_parse_result(ctx, {}, [])
            found[name] = ctx.params.pop(name, None)
    return found


def send_preload(ctx: click.Context, session: Session) -> None:
    """Send user_preload_options with the values of the options for all programs, once the app is there."""

    def send(app: App) -> None:
        names = {option.name for option in (getattr(app, "user_options", None) or {}).get("preload", ())}
        if names:
            from qcore.signals import user_preload_options

            options = {name: value for name, value in values(ctx, app).items() if name in names}
            user_preload_options.send(ctx.command.callback, app=app, options=options)

    session.after_load = send
    if "app" in session.__dict__:
        send(session.app)
