"""Options that every command takes: app, broker, output, timeout; and those of lists."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from qctl.cli.session import session_of
from qctl.cli.types import ContextName, FormatName, Names, Span

if TYPE_CHECKING:
    Kind = click.ParamType[Any]
else:
    Kind = click.ParamType  # generic only in newer versions of click


class GlobalOption(click.Option):
    """An option that every command takes; its value is stored in the session."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Of one command, CELERY_INSPECT_TIMEOUT; configuration/layers.py reads those of all."""
        return super().resolve_envvar_value(ctx) if ctx.parent is not None else None


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Store a global option given on the command line; the innermost one wins."""
    assert param.name is not None
    if ctx.get_parameter_source(param.name) not in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT):
        return
    options = session_of(ctx).options
    name, value = ("output", "json") if param.name == "as_json" else (param.name, value)
    options.given[name] = value
    setattr(options, name, value)


def global_options() -> list[click.Option]:
    """New option objects; each command needs its own set."""

    def option(*names: str, **attributes: Any) -> click.Option:
        return GlobalOption([*names], expose_value=False, callback=_keep, **attributes)

    return [
        option("-A", "--app", metavar="APP", help="The app: module or module:name. [env: QCTL_APP]"),
        option(
            "-b", "--broker", metavar="URL", help="Broker URL. [env: QCTL_BROKER_URL; default: sqlite://]"
        ),
        option("--result-backend", metavar="URL", help="URL of the result store. [env: QCTL_RESULT_BACKEND]"),
        option(
            "--context",
            type=ContextName(),
            help="Named fleet to use; see `qctl ctx`. [env: QCTL_CONTEXT]",
        ),
        option("--workdir", metavar="DIR", help="Change to this directory before loading the app."),
        option(
            "-o",
            "--output",
            type=FormatName(),
            help="Output format: json, wide, csv, …; see `help formats`. [env: QCTL_OUTPUT]",
        ),
        option("-j", "--json", "as_json", is_flag=True, help="Same as -o json."),
        option("-t", "--timeout", type=Span(), help="Timeout: 2, 1.5s, 10m. [env: QCTL_TIMEOUT]"),
        option(
            "--read-only/--read-write",
            default=None,
            help="Refuse or allow commands that change something. [env: QCTL_READ_ONLY]",
        ),
        option("-q", "--quiet", is_flag=True, help="Print no counts and remarks on stderr."),
        option("-C", "--no-color", is_flag=True, help="Print no colours. [env: NO_COLOR]"),
        option("--debug", is_flag=True, help="Show tracebacks of errors. [env: QCTL_DEBUG]"),
    ]


class WatchOption(click.Option):
    """-w, or --watch=TIME: repeat the command. The time needs its '=', so that -w may stand before an
    argument."""

    KEY = "qctl.watch_s"

    def __init__(self) -> None:
        super().__init__(
            ["-w", "--watch"],
            type=Span(),
            expose_value=False,
            callback=self._note,
            help="Repeat every 2 s, or every TIME, until Ctrl-C.",
        )

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        return "-w, --watch[=TIME]", self.help or ""

    @staticmethod
    def spelled_out(args: list[str]) -> list[str]:
        """The words, with the default time added to a bare -w."""
        bare = {"-w": "--watch=2", "--watch": "--watch=2"}
        end = args.index("--") if "--" in args else len(args)
        return [*(bare.get(word, word.replace("-w=", "-w")) for word in args[:end]), *args[end:]]

    @classmethod
    def _note(cls, ctx: click.Context, param: click.Parameter, value: float | None) -> None:
        if value is not None:
            if not 0.1 <= value <= 86400:
                raise click.BadParameter("between 0.1 s and a day", ctx=ctx, param=param)
            ctx.meta[cls.KEY] = value


def reason_option() -> click.Option:
    """The --reason option of every command that changes something."""

    def keep(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
        if value is not None:
            session_of(ctx).options.reason = value

    words = "Reason for the audit log; required in contexts of class prod."
    return click.Option(["--reason"], metavar="TEXT", expose_value=False, callback=keep, help=words)


def _keep_listing(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE:
        listing = session_of(ctx).options.listing
        setattr(listing, {"no_headers": "headers"}.get(param.name or "", param.name or ""), value)


def list_options(taken: Iterable[str]) -> list[click.Option]:
    """The options of commands that print a list, without those whose names are taken."""

    def option(*names: str, **attributes: Any) -> click.Option:
        return click.Option([*names], expose_value=False, callback=_keep_listing, **attributes)

    made = [
        option("--columns", type=Names(), help="Print only these columns, in this order."),
        option("--sort", metavar="FIELD", help="Sort by this field; --sort=-FIELD: in descending order."),
        option("--limit", type=click.IntRange(0), help="Print at most this many lines."),
        option("--no-headers", is_flag=True, flag_value=False, default=None, help="Print no header line."),
    ]
    taken = set(taken)
    return [o for o in made if not taken & set(o.opts)]
