"""Click commands with a generated help page, and groups that import their commands on demand.

In:  a function with click parameters, examples and exit codes.  Out: a command whose --help prints
examples first and exit codes last; near-miss suggestions for names at every level.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import click

from qctl import exit_codes as codes_of
from qctl.cli.global_options import GlobalOption, WatchOption, global_options, list_options, reason_option
from qctl.cli.session import session_of
from qctl.cli.types import nearest

WIDTH = 80
CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": WIDTH}


class Example(NamedTuple):
    """A working command line, and its purpose."""

    line: str
    what: str


class CliCommand(click.Command):
    """A click command with examples, exit codes and see-also; it takes the global options too."""

    def __init__(
        self,
        *args: Any,
        examples: Sequence[tuple[str, str]] = (),
        exit_codes: Mapping[int, str] | Sequence[int] = (),
        see_also: Sequence[str] = (),
        groups: Mapping[str, Sequence[str]] | None = None,
        changes: bool = False,
        lists: bool = False,
        watches: bool | None = None,
        settles: bool = True,
        **attributes: Any,
    ) -> None:
        """groups: heading -> names of options; all others come last, under "Options". changes: the command
        changes something at the broker or at workers. lists: it prints a list and takes --columns, --sort,
        --limit and --no-headers. watches: it takes --watch; by default every command without changes does.
        settles: it needs the effective context and defaults."""
        attributes["context_settings"] = {**CONTEXT, **(attributes.get("context_settings") or {})}
        super().__init__(*args, **attributes)
        self.examples = [Example(*e) for e in examples]
        self.see_also = list(see_also)
        self.changes = changes
        self.settles = settles
        taken = {name for p in self.params for name in p.opts} & {"-w", "--watch"}
        self.watches = watches is not False and not (changes or taken or isinstance(self, click.Group))
        self.groups = dict(groups or {})
        self.exit_codes = all_codes(exit_codes)
        if changes:
            self.exit_codes = dict(
                sorted({codes_of.REFUSED: codes_of.TABLE[codes_of.REFUSED], **self.exit_codes}.items())
            )
            if not any("--reason" in p.opts for p in self.params):
                self.params.append(reason_option())
        if lists:
            self.params.extend(list_options(name for p in self.params for name in p.opts))
        if self.watches:
            self.params.append(WatchOption())
        self.params.extend(global_options())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = WatchOption.spelled_out(args) if self.watches else args
        if ctx.parent is not None and {"-h", "--help"} & set(words):
            from qctl.cli.user_options import add

            try:
                add(self, ctx, words, loads=False)
            except Exception as exc:  # of the user's modules
                session_of(ctx).out.warn(f"the options of the app are not shown: {exc}")
        try:
            return super().parse_args(ctx, list(words))
        except click.NoSuchOption:
            from qctl.cli.user_options import add

            if not add(self, ctx, words):
                raise
        return super().parse_args(ctx, list(words))

    def make_parser(self, ctx: click.Context) -> Any:
        parser = super().make_parser(ctx)
        # click looks for a long option first, and for similar ones when there is none: 2 ms for each `-c`.
        getattr(parser, "_long_opt", {}).update(getattr(parser, "_short_opt", {}))
        return parser

    def invoke(self, ctx: click.Context) -> Any:
        if self.settles and not isinstance(self, click.Group):
            session_of(ctx).settle()
        if ctx.parent is not None and ctx.invoked_subcommand is None:
            self._take_user_options(ctx)
        if self.changes and not ctx.params.get("dry_run"):
            return self._change(ctx)
        every_s = ctx.meta.get(WatchOption.KEY) if self.watches else None
        if every_s is None:
            return super().invoke(ctx)
        from qctl.cli.repeat import watch

        look = super().invoke
        return watch(session_of(ctx), ctx.command_path, lambda: look(ctx), every_s)

    @staticmethod
    def _take_user_options(ctx: click.Context) -> None:
        from qctl.cli.user_options import send_preload, take

        take(ctx)
        send_preload(ctx, session_of(ctx))

    def _change(self, ctx: click.Context) -> Any:
        from qctl.cli.audit import record
        from qctl.cli.read_only import permit

        session = session_of(ctx)
        session.options.reason = session.options.reason or ctx.params.get("reason")
        permit(session, ctx.command_path)
        code = codes_of.BUG
        try:
            value = super().invoke(ctx)
            code = value if isinstance(value, int) else codes_of.OK
            return value
        except (Exception, KeyboardInterrupt) as exc:
            stop = codes_of.explain(exc)
            stopped = isinstance(exc, KeyboardInterrupt | click.Abort)
            usage = isinstance(exc, click.UsageError)
            code = (
                stop.code if stop else codes_of.INTERRUPTED if stopped else codes_of.USAGE if usage else code
            )
            raise
        finally:
            record(session, code)

    def summary(self) -> str:
        """The first sentence of the help text."""
        return (self.help or "").strip().split("\n", 1)[0].rstrip(".")

    def get_short_help_str(self, limit: int = 45) -> str:
        return self.summary()

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(f"{self.summary()}.\n\n")
        self.format_usage(ctx, formatter)
        self._write_examples(formatter)
        self._write_text(formatter)
        self.format_options(ctx, formatter)
        self._write_ends(formatter)

    def own_options(self) -> list[click.Parameter]:
        """Options that only this command takes."""
        return [p for p in self.params if isinstance(p, click.Option) and not isinstance(p, GlobalOption)]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = {p.name or "": r for p in self.own_options() if (r := p.get_help_record(ctx)) is not None}
        for heading, names in self.groups.items():
            with formatter.section(heading):
                formatter.write_dl([own.pop(name) for name in names])
        records = [*own.values(), ("-h, --help", "Show this page.")]
        with formatter.section("Options"):
            formatter.write_dl(records)
        common = [p for p in self.params if isinstance(p, GlobalOption)]
        with formatter.section("Global options (before or after the command)"):
            formatter.write_dl([r for p in common if (r := p.get_help_record(ctx)) is not None])

    def text(self) -> str:
        """The help text after its first line."""
        import inspect

        return inspect.cleandoc(self.help or "").partition("\n\n")[2].strip()

    def _write_text(self, formatter: click.HelpFormatter) -> None:
        if self.text():
            formatter.write_paragraph()
            formatter.write_text(self.text())

    def _write_examples(self, formatter: click.HelpFormatter) -> None:
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"  {example.line}\n      {example.what}\n")

    def _write_ends(self, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), words) for code, words in self.exit_codes.items()])
        if self.see_also:
            with formatter.section("See also"):
                formatter.write_text(", ".join(f"qctl {name}" for name in self.see_also))


def all_codes(own: Mapping[int, str] | Sequence[int]) -> dict[int, str]:
    """The command's own exit codes and the common ones, each with its text."""
    words = own if isinstance(own, Mapping) else {code: codes_of.TABLE[code] for code in own}
    codes = {codes_of.OK: codes_of.TABLE[codes_of.OK], **words}
    codes.update({code: codes_of.TABLE[code] for code in codes_of.COMMON if code not in codes})
    return dict(sorted(codes.items()))


def command(name: str, **attributes: Any) -> Callable[[Callable[..., Any]], CliCommand]:
    """Decorator: turn the function into the CliCommand `name`."""
    made: Callable[[Callable[..., Any]], CliCommand] = click.command(name, cls=CliCommand, **attributes)
    return made


class CliGroup(CliCommand, click.Group):
    """A group of commands with its own help page."""

    kind = "command"

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        found = self.get_command(ctx, name)
        if found is None and not ctx.resilient_parsing:
            if name.startswith("-"):
                return super().resolve_command(ctx, args)
            known = self.list_commands(ctx)
            hint = nearest(name, known) or self.other_home(ctx, name)
            raise click.UsageError(f"no {self.kind} named '{name}'{hint}", ctx)
        return name if found else None, found, args[1:]

    def other_home(self, ctx: click.Context, name: str) -> str:
        """Text for a name that is no command of this group but exists elsewhere."""
        return ""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        CliCommand.format_options(self, ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.summary_of(ctx, name)) for name in self.list_commands(ctx)])

    def summary_of(self, ctx: click.Context, name: str) -> str:
        found = self.get_command(ctx, name)
        return found.get_short_help_str() if found else ""


class LazyGroup(CliGroup):
    """A group whose commands are imported when they run.

    sections: heading -> {name: one line}; modules: name -> the module with its `command`.
    """

    def __init__(
        self,
        *args: Any,
        sections: Mapping[str, Mapping[str, str]],
        modules: Mapping[str, str],
        extends: str = "",
        **attributes: Any,
    ) -> None:
        """extends: the entry point group of additional commands; they are not listed, since the look-up takes
        longer than printing the help page."""
        super().__init__(*args, **attributes)
        self.sections, self.modules, self.extends = sections, modules, extends

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for names in self.sections.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return self._of_others(ctx, cmd_name)
        module = importlib.import_module(self.modules[cmd_name])
        found: click.Command = module.command
        return found

    def _of_others(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of an installed package: an entry point of the group `extends`."""
        if not self.extends or not name.isidentifier():
            return None
        from qcore.base.plugins import entry_points_of

        point = entry_points_of(self.extends).get(name)
        if point is None:
            return _of_celerys_kind(ctx, name)
        found = point.load()
        if not isinstance(found, click.Command):
            raise codes_of.CommandError(
                codes_of.BAD_CONFIG, f"'{point.value}' is no click command (entry point {name})"
            )
        return found

    def summary_of(self, ctx: click.Context, name: str) -> str:
        return next(names[name] for names in self.sections.values() if name in names)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, names in self.sections.items():
            with formatter.section(heading):
                formatter.write_dl(list(names.items()))


def _of_celerys_kind(ctx: click.Context, name: str) -> click.Command | None:
    """A command that a package brings for Celery's command line: an entry point of the group celery.commands.
    `import celery` means qcore while it is imported, and its `ctx.obj` is as in Celery."""
    from qcore.base.plugins import entry_points_of

    point = entry_points_of("celery.commands").get(name)
    if point is None:
        return None
    from qcore.celery.commands import CLIContext
    from qcore.celery.install import install

    install()
    found = point.load()
    if not isinstance(found, click.Command):
        raise codes_of.CommandError(
            codes_of.BAD_CONFIG, f"'{point.value}' is no click command (entry point {name})"
        )
    session = session_of(ctx)
    options = session.options
    obj = CLIContext(lambda: session.app, bool(options.no_color), options.workdir, bool(options.quiet))
    found.context_settings = {**found.context_settings, "obj": obj}
    return found
