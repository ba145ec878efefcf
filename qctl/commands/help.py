"""`qctl help`: the help of a command or of a topic."""

from __future__ import annotations

import click

from qctl import exit_codes
from qctl.cli.command import CliCommand, CliGroup, LazyGroup
from qctl.cli.command import command as page
from qctl.cli.session import session_of
from qctl.cli.types import nearest
from qctl.options import FORMATS

ENVIRONMENT = {
    "QCTL_APP": "the app, as -A (also CELERY_APP)",
    "QCTL_BROKER_URL": "broker URL, as -b; overrides the app's own setting (also CELERY_BROKER_URL)",
    "QCTL_RESULT_BACKEND": "URL of the result store, as --result-backend (also CELERY_RESULT_BACKEND)",
    "QCTL_CONTEXT": "the context, as --context; empty: no context",
    "QCTL_TIMEOUT": "timeout, as -t",
    "QCTL_CELERY": "real: `import celery` in a project means the installed Celery, not qcore",
    "QCTL_READ_ONLY": "1: refuse changes, as --read-only; 0: allow them, as --read-write",
    "QCTL_CONFIG": "the directory of contexts.toml and config.toml (~/.config/qctl)",
    "QCTL_LOG_FORMAT": "json: the worker logs one JSON object per line",
    "QCTL_TRACING": "1: OpenTelemetry's spans of calls and runs (setting tracing)",
    "QCTL_SCHEDULE_STORE": "schedule_store: URL of the store of the schedule, for RabbitMQ (the broker)",
    "QCTL_LEASE": "lease: seconds after which the tasks of a dead worker are redelivered (30)",
    "QCTL_OUTPUT": "the output format, as -o",
    "QCTL_THEME": "the colours of the dashboard, as `events --theme`",
    "QCTL_SERVE_TOKEN": "access token of `events --serve`; default: a random one at each start",
    "QCTL_DEBUG": "show tracebacks of errors, as --debug",
    "QCTL_CONTROL_KEY": "ID:SECRET or file:PATH: the key that signs control requests",
    "QCTL_CONTROL_UNSIGNED": (
        "permissions of unsigned control requests: allow, read, refuse (control_unsigned)"
    ),
    "QCTL_DEFAULT_QUEUE": "the queue of tasks without one (setting task_default_queue)",
    "QCTL_BENCH_SETTINGS": "set by `bench` for its worker",
    "QCTL_CONDITION": "set by `watch --exec` for its command; so are QCTL_READY and the like",
    "CELERY_<COMMAND>_<OPTION>": "an option of a command, as in Celery: CELERY_WORKER_CONCURRENCY=4",
    "CELERY_CONFIG_MODULE": "the module with the settings of an app that names none, as --config",
    "CELERY_LOADER": "the loader class, as --loader",
    "CELERY_RDBSIG": "1: SIGUSR2 stops a worker, or a process of its pool, in the remote debugger",
    "NO_COLOR": "no colours",
    "FORCE_COLOR": "colours even if the output is not a terminal (also CLICOLOR_FORCE)",
    "TERM": "dumb: no colours and no dashboard",
    "VISUAL": "the editor of `ctx edit`; then EDITOR, then vi",
    "REMAP_SIGTERM": "SIGQUIT: a worker treats SIGTERM as SIGQUIT, as Celery does",
}


def exit_codes_topic() -> str:
    """The topic exit-codes."""
    rows = [f"  {code:>3}  {words}" for code, words in exit_codes.TABLE.items()]
    return "Exit codes\n\n" + "\n".join(rows)


def environment() -> str:
    """The topic env."""
    wide = max(map(len, ENVIRONMENT))
    rows = [f"  {name:<{wide}}  {words}" for name, words in ENVIRONMENT.items()]
    order = """Precedence, highest first: an option, the environment, the project's qctl.toml, the context and
your config.toml, the app's own settings; see `qctl config explain`."""
    return f"Environment\n\n{chr(10).join(rows)}\n\n{order}"


def formats() -> str:
    """The topic formats."""
    rows = [f"  {name:<14} {words}" for name, words in FORMATS.items()]
    text = """A document has `schema` and `version`; within a version fields are only added. Lists are in
`items`, replies of workers in `replies` by worker. An empty answer is [] or {}.
Times are RFC 3339 in UTC, lengths of time are seconds, sizes are bytes. Tables are for people and
may change. Everything that is not the answer goes to stderr; with json and ndjson errors do so as
JSON.

csv, tsv, fields= and template= name the fields that -o json shows; dots go inside: {request.name}.
A field with a list or an object in it is JSON. Control characters are shown as \\x1b and the like.
In csv, text that a spreadsheet would read as a formula has a quote mark (') in front. An empty
list is only the header line in csv, and no output in the others. In a template {{ and }} are
braces, \\t is a tab and \\n a line end.

Commands that print a list take --columns, --sort, --limit and --no-headers. Sorting and limits
apply in every format; columns in tables, csv and tsv. `completion` and the topics of `help`
always print text.

  qctl queue ls -o template='{queue} has {ready}'
  qctl status -o fields=node,state"""
    return "Output formats (-o)\n\n" + "\n".join(rows) + f"\n\n{text}"


def filters() -> str:
    """The topic filters."""
    from qctl.filters.fields import explanation

    return explanation()


TOPICS = {"exit-codes": exit_codes_topic, "env": environment, "formats": formats, "filters": filters}


@page(
    "help",
    watches=False,
    settles=False,
    examples=[
        ("qctl help call", "the page of a command"),
        ("qctl help inspect active", "the page of a subcommand"),
        ("qctl help -o json", "all commands with their options, as data"),
        ("qctl help exit-codes", "the meaning of the exit codes; also: env, formats, filters"),
    ],
)
@click.argument("words", nargs=-1, metavar="[COMMAND...]|exit-codes|env|formats|filters")
@click.pass_context
def command(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Explain a command, exit codes, formats, the environment."""
    root = ctx.find_root()
    if len(words) == 1 and words[0] in TOPICS:
        click.echo(TOPICS[words[0]]())
        return
    found, context = root.command, root
    for word in words:
        inner = found.get_command(context, word) if isinstance(found, CliGroup) else None
        if inner is None:
            known = found.list_commands(context) if isinstance(found, CliGroup) else []
            topics = list(TOPICS) if isinstance(found, LazyGroup) else []
            raise click.UsageError(f"no page for '{word}'{nearest(word, [*known, *topics])}", ctx)
        context = click.Context(inner, info_name=word, parent=context)
        found = inner
    out = session_of(ctx).out
    if out.for_people:
        click.echo(found.get_help(context))
        return
    from qctl.cli.description import describe, global_options

    assert isinstance(found, CliCommand)
    name = " ".join(["qctl", *words])
    out.document("help", {**describe(name, found, context), "global_options": global_options(found, context)})
