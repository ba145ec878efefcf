"""`inspect X` and `control X`: click commands made from the table of control commands.

In:  one row of the table.  Out: a command with its own help, which sends the request, prints the replies
and reports silent workers.  Before this: qctl/commands/remote/inspect.py, control.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from qctl import exit_codes
from qctl.cli.command import CliCommand, CliGroup
from qctl.cli.confirm import confirm_option
from qctl.cli.confirm import options as consent_options
from qctl.cli.global_options import global_options
from qctl.cli.session import Session, current, session_of
from qctl.cli.types import Destinations, TaskName, names_on_stdin
from qctl.commands.remote.shutdown import ShutdownOptions, shut_down
from qctl.fleet.silent_workers import report_silence
from qctl.output import replies
from qctl.output.text import count, shown

if TYPE_CHECKING:
    from qcore.control.commands.base import Arg, Command

CODES = (exit_codes.FAILED, exit_codes.NOT_FOUND, exit_codes.PARTIAL, exit_codes.NO_ANSWER)

#: where the -d of a group is kept
DESTINATION = "qctl.destination"
#: time-out of the query for a command that only a worker may have registered, seconds
PATIENCE_S = 0.5

#: example values of arguments
SAMPLES = {
    "queue": "reports",
    "task_name": "proj.add",
    "rate_limit": "10/m",
    "soft": "30",
    "signal": "KILL",
    "task_id": "2f9c1e0a",
    "ids": "2f9c1e0a",
    "n": "2",
}


class BusGroup(CliGroup):
    """The commands of one kind: 'inspect' reads, 'control' changes something."""

    def __init__(self, name: str, bus_kind: str, **attributes: Any) -> None:
        lister = click.Option(
            ["-l", "--list"],
            is_flag=True,
            is_eager=False,
            expose_value=False,
            callback=_list_all,
            help="List all commands, also those of your apps.",
        )
        options = [destination_option(), lister]
        super().__init__(
            name,
            params=options,
            callback=_keep_destination,
            exit_codes=CODES,
            subcommand_metavar="COMMAND [ARGUMENTS]...",
            **attributes,
        )
        self.bus_kind = bus_kind
        self.kind = f"{name} command"

    def list_commands(self, ctx: click.Context) -> list[str]:
        from qcore.control.commands.registry import commands

        names = {c.name for c in commands(self.bus_kind) if c.visible}
        if ctx.resilient_parsing:  # shell completion, which may take the time of a query
            names.update(c.name for c in self._of_fleet(ctx))
        return sorted(names)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self._find(args[0]) is None:
            # The options that name the fleet may follow the command: `inspect mine -b URL`.
            taken: list[click.Parameter] = [*global_options(), click.Argument(["rest"], nargs=-1)]
            passing = {"ignore_unknown_options": True, "allow_extra_args": True}
            probe = click.Command("probe", params=taken, context_settings=passing, add_help_option=False)
            probe.make_context("probe", args[1:], parent=ctx, resilient_parsing=True).close()
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = self._find(cmd_name)
        if found is None and ctx.params is not None and self._has_app(session_of(ctx)):
            _ = session_of(ctx).app  # the user's module may register commands of its own
            found = self._find(cmd_name)
        if found is None and ctx.obj is not None:
            of_fleet = self._of_fleet(ctx, None if ctx.resilient_parsing else PATIENCE_S)
            found = next((c for c in of_fleet if cmd_name in (c.name, c.alias)), None)
        return page_for(found) if found else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_commands(ctx, formatter)
        if ctx.obj is not None and (brought := self._of_fleet(ctx)):
            with formatter.section("Commands of your apps"):
                formatter.write_dl([(c.name, shown(c.summary)) for c in brought])

    def _of_fleet(self, ctx: click.Context, budget_s: float | None = None) -> list[Command]:
        """The commands that the app of -A, or of an online worker, registers."""
        from qcore.control.commands.base import from_description
        from qctl.cli.completion_values import BUDGET_S, known

        described = [from_description(d) for d in known(session_of(ctx), "commands", budget_s or BUDGET_S)]
        return [c for c in described if c is not None and c.kind == self.bus_kind]

    @staticmethod
    def _has_app(session: Session) -> bool:
        if session.options.app is None:
            session.settle()  # a context may name one
        return bool(session.options.app)

    def _find(self, name: str) -> Command | None:
        from qcore.control.commands.registry import commands

        return next((c for c in commands(self.bus_kind) if name in (c.name, c.alias)), None)

    def other_home(self, ctx: click.Context, name: str) -> str:
        from qcore.control.commands.registry import commands

        for found in commands():
            if found.name == name and found.kind != self.bus_kind:
                return f"; it is `qctl {found.kind} {name}`"
        return f"; see `{ctx.command_path} --help`"


def _list_all(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Print all commands of the group, and leave: those of qcore, of the app of -A, and of online workers."""
    if not value or ctx.resilient_parsing:
        return
    from qcore.control.commands.registry import commands

    group, session = ctx.command, session_of(ctx)
    assert isinstance(group, BusGroup)
    if group._has_app(session):
        _ = session.app  # the user's module may register commands of its own
    own = [c for c in commands(group.bus_kind) if c.visible]
    every = {c.name: c for c in (*group._of_fleet(ctx, PATIENCE_S), *own)}
    rows = [(f"{c.name} {shown(c.signature or _arguments(c))}".strip(), c) for c in every.values()]
    width = max(len(usage) for usage, _ in rows) + 2
    for usage, listed in sorted(rows, key=lambda row: row[0]):
        click.echo(f"{usage:<{width}}{shown(listed.summary)}")
    ctx.exit()


def _arguments(found: Command) -> str:
    return " ".join(f"[{a.name}]" if not a.required else a.name for a in found.args)


def destination_option() -> click.Option:
    """-d, of the group and of each of its commands."""
    return click.Option(
        ["-d", "--destination"],
        type=Destinations(),
        multiple=True,
        help="Only these workers, by name or glob ('w*@host'); - reads names from stdin.",
    )


@click.pass_context
def _keep_destination(ctx: click.Context, destination: Sequence[list[str]]) -> None:
    """Keep -d before the name of a command for that command."""
    ctx.meta[DESTINATION] = destination


def page_for(found: Command) -> CliCommand:
    """The click command of one control command."""
    params: list[click.Parameter] = [
        *_words(found),
        destination_option(),
    ]
    if found.name == "shutdown":
        params += [
            click.Option(["--no-wait"], is_flag=True, help="Do not wait until the workers have exited."),
            *consent_options(),
            confirm_option(),
        ]
    return CliCommand(
        found.name,
        params=params,
        callback=_runner(found),
        help=_help(found),
        examples=_examples(found),
        exit_codes=CODES,
        see_also=[found.kind, "status", "help exit-codes"],
        options_metavar="[OPTIONS]",
        changes=found.kind == "control",
    )


def _words(found: Command) -> list[click.Parameter]:
    """The positional arguments as one parameter; the command table parses and checks them."""
    if not found.args and found.variadic is None:
        return []
    kind = TaskName() if any(a.name == "task_name" for a in found.args) else click.STRING
    return [click.Argument(["words"], nargs=-1, type=kind, metavar=found.signature or _arguments(found))]


def _help(found: Command) -> str:
    lines = [f"{found.summary}."]
    described = [f"  {a.name}: {a.help}{_default(a)}" for a in found.args if a.help]
    if described:
        lines += ["", "\b", *described]
    if found.name == "shutdown":
        lines += [
            "",
            "Without -d it stops every worker and asks to type the name of the context, or 'all' when",
            "there is none. In scripts give --yes, in prod --confirm NAME.",
        ]
    return "\n".join(lines)


def _default(arg: Arg) -> str:
    return "" if arg.required or arg.default is None else f" (default: {arg.default})"


def _examples(found: Command) -> list[tuple[str, str]]:
    words = " ".join(SAMPLES.get(a.name, a.name) for a in found.args if a.required)
    if found.required_variadic and found.variadic:
        words += f" {SAMPLES.get(found.variadic, found.variadic)}"
    line = f"qctl {found.kind} {found.name} {words}".rstrip()
    examples = [(line, "on every worker"), (f"{line} -d 'w1@*'", "only on the workers called w1")]
    if found.kind == "inspect":
        examples.append((f"{line} -o json", "replies as one JSON document"))
    return examples


def _runner(found: Command) -> Callable[..., int]:
    def run(
        destination: Sequence[list[str]],
        words: tuple[str, ...] = (),
        no_wait: bool = False,
        yes: bool = False,
        dry_run: bool = False,
    ) -> int:
        session = current()
        try:
            arguments = found.arguments(words)
        except ValueError as exc:
            raise click.UsageError(str(exc), click.get_current_context()) from None
        before = click.get_current_context().meta.get(DESTINATION, ())
        chosen_nodes = nodes([*before, *destination])
        if not found.replies:
            return shut_down(
                session, found, arguments, chosen_nodes, ShutdownOptions(not no_wait, yes, dry_run)
            )
        return ask(session, found, arguments, chosen_nodes)

    return run


def nodes(destination: Sequence[Sequence[str]]) -> list[str] | None:
    """The names of all -d options as one list; None: all workers. '-' reads stdin. CommandError if empty."""
    names = [name for group in destination for name in group]
    if "-" in names:
        names = [n for n in names if n != "-"] + names_on_stdin()
        if not names:
            raise exit_codes.CommandError(exit_codes.NOT_FOUND, "no worker was named on stdin")
    return names or None


def ask(session: Session, found: Command, arguments: dict[str, Any], chosen_nodes: list[str] | None) -> int:
    """Send the request, print the replies, report silent workers; return the exit code."""
    timeout = session.options.timeout or 1.0
    remembered = _remember_revoked(session, found, arguments)
    answers = session.app.control.ask(found.name, arguments, chosen_nodes, timeout)
    try:
        code = report_silence(session, answers, chosen_nodes, timeout)
    except exit_codes.CommandError as stop:
        replies.write_empty(session.out, found)
        if remembered and stop.code == exit_codes.NO_ANSWER:
            session.out.note(
                "no worker is online; the broker stores the request for workers that start later"
            )
            return exit_codes.OK
        raise
    replies.write(session.out, found, answers)
    refused = replies.errors(answers)
    for node, words in refused.items():
        session.out.warn(f"{node} refused: {words}")
    asked = len(answers.replies) + len(answers.silent)
    if answers.replies:
        session.out.note(f"{len(answers.replies)} of {count(asked, 'worker')} answered")
    if refused and code == exit_codes.OK:
        return exit_codes.FAILED if len(refused) == len(answers.replies) else exit_codes.PARTIAL
    if found.name == "revoke" and chosen_nodes is None and code == exit_codes.OK:
        from qctl.fleet.task_location import report_location

        return report_location(session, [str(i) for i in arguments["task_id"]], answers)
    if found.name == "query_task" and code == exit_codes.OK and not any(answers.replies.values()):
        raise exit_codes.CommandError(
            exit_codes.NOT_FOUND, f"no worker has {' or '.join(arguments['ids'])}", "see `qctl result ID`"
        )
    return code


def _remember_revoked(session: Session, found: Command, arguments: dict[str, Any]) -> bool:
    """Store a revoke at the broker for workers that start later; return whether the broker keeps it."""
    if found.name not in ("revoke", "terminate"):
        return False
    broker = session.broker
    broker.revoke(list(arguments["task_id"]))
    return broker.features.revokes
