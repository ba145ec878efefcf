"""`schedule add`, `edit`, `reset`, `rm`, `pause`, `resume`, `run`."""

from __future__ import annotations

from typing import Any

import click

from qctl import exit_codes
from qctl.cli.command import CliCommand
from qctl.cli.confirm import CODES as CONSENT_CODES
from qctl.cli.confirm import ask
from qctl.cli.confirm import options as consent_options
from qctl.cli.session import current
from qctl.cli.types import Json, Moment, OneOf, QueueName, ScheduleName, Span, TaskName
from qctl.commands.schedule.show import CODES, expression, named, show

_FIELDS: list[click.Parameter] = [
    click.Option(["-a", "--args", "args"], type=Json(list, "'[2, 2]'"), help="Arguments as a JSON list."),
    click.Option(
        ["-k", "--kwargs", "kwargs"],
        type=Json(dict, "'{\"x\": 2}'"),
        help="Keyword arguments as a JSON object.",
    ),
    click.Option(["-Q", "--queue"], type=QueueName(), metavar="TEXT", help="Queue to send the task to."),
    click.Option(["--priority"], type=click.IntRange(0, 9), help="Priority, 0 to 9."),
    click.Option(["--expires"], type=Span(), help="Discard the task if it has not started within this time."),
    click.Option(["--timezone"], help="Time zone of a crontab. [default: the app's, or UTC]"),
    click.Option(
        ["--dst"],
        type=OneOf("policy", ("auto", "once", "each")),
        help="Daylight saving time: a wall time that occurs twice, or not, runs once, each, auto.",
    ),
    click.Option(
        ["--missed"],
        type=OneOf("policy", ("once", "skip", "all")),
        help="Instants that passed unpublished: once, skip, all.",
    ),
    click.Option(
        ["--missed-most"],
        type=click.IntRange(1, 10_000),
        help="With --missed all: the newest so many. [default: 100]",
    ),
    click.Option(
        ["--overlap"],
        type=OneOf("policy", ("run", "skip", "queue")),
        help="While the last run goes on: run, skip, queue one.",
    ),
    click.Option(["--jitter"], type=Span(), help="Publish each instant up to this much later."),
    click.Option(["--deadline"], type=Span(), help="Do not publish an instant later than this."),
    click.Option(["--start"], type=Moment(), help="No instant before this time."),
    click.Option(["--end"], type=Moment(), help="No instant after this time."),
    click.Option(["--note"], help="A text for people."),
]
_GROUPS = {
    "Task": ("args", "kwargs", "queue", "priority", "expires"),
    "Schedule": ("timezone", "dst", "start", "end", "jitter"),
    "Policies": ("missed", "missed_most", "overlap", "deadline"),
}
_DIRECT = ("args", "kwargs", "timezone", "dst", "missed", "missed_most", "overlap", "note")
_RENAMED = {"jitter": "jitter_s", "deadline": "deadline_s", "start": "starts_at", "end": "ends_at"}
_name = click.Argument(["name"], type=ScheduleName())


def _given(options: dict[str, Any], before: dict[str, Any] | None = None) -> dict[str, Any]:
    """The fields of an entry from the options of a command; before: its options of apply_async()."""
    fields = {name: options[name] for name in _DIRECT if options.get(name) is not None}
    for option, field in _RENAMED.items():
        if options.get(option) is not None:
            fields[field] = options[option]
    sending = {
        name: options[name] for name in ("queue", "priority", "expires") if options.get(name) is not None
    }
    if sending:
        fields["options"] = {**(before or {}), **sending}
    return fields


def _add(name: str, task: str, schedule: tuple[str, ...], **options: Any) -> None:
    session = current()
    found = session.app.schedules.add(name, task, spec=expression(" ".join(schedule)), **_given(options))
    show([found])
    session.out.note(f"{name} is due {session.app.schedules.explain(found.entry)}")


def _edit(name: str, schedule: str | None, task: str | None, **options: Any) -> None:
    session = current()
    before = named(lambda: session.app.schedules.get(name))
    fields = _given(options, before.entry.options)
    if schedule is not None:
        fields["spec"] = expression(schedule)
    if task is not None:
        fields["task"] = task
    if not fields:
        raise exit_codes.CommandError(
            exit_codes.USAGE, "nothing to change is given", "see `qctl schedule edit -h`"
        )
    found = named(lambda: session.app.schedules.edit(name, **fields))
    show([found])
    if found.edited:
        session.out.note(f"{name} overrides what the code declares; `qctl schedule reset {name}` undoes it")


def _reset(name: str) -> None:
    show([named(lambda: current().app.schedules.reset(name))])


def _remove(name: str, yes: bool, dry_run: bool) -> None:
    from qcore.errors import Malformed

    session = current()
    try:
        show([named(lambda: session.app.schedules.get(name))])
    except Malformed as exc:  # it can be deleted all the same
        session.out.warn(str(exc))
    if dry_run:
        session.out.note("nothing was deleted (--dry-run)")
        return
    ask(f"the schedule entry {name}", "deleted", yes)
    named(lambda: session.app.schedules.remove(name))
    session.out.note(f"{name} is deleted")


def _pause(name: str) -> None:
    show([named(lambda: current().app.schedules.pause(name))])
    current().out.note(f"{name} is paused; `qctl schedule resume {name}` publishes it again")


def _resume(name: str) -> None:
    show([named(lambda: current().app.schedules.resume(name))])


def _run(name: str) -> None:
    session = current()
    result = named(lambda: session.app.schedules.run(name))
    if session.out.for_people:
        session.out.line(result.id)
    else:
        session.out.document("schedule.run", {"name": name, "task_id": result.id}, "name")


add_page = CliCommand(
    "add",
    callback=_add,
    params=[
        click.Argument(["name"]),
        click.Argument(["task"], type=TaskName()),
        click.Argument(["schedule"], nargs=-1, required=True),
        *_FIELDS,
    ],
    groups=_GROUPS,
    changes=True,
    help="""Add an entry: a task, and when it is published.

    The schedule is a crontab expression (minute, hour, day of month, month, day of week; a day must match
    both), an interval (every 30s), or an event of the sun with latitude and longitude (sunset 52.5 13.4).
    Running schedulers publish it within a second.""",
    examples=[
        ("qctl schedule add nightly proj.report '0 4 * * *' --timezone Europe/Berlin", "each day at 4:00"),
        (
            "qctl schedule add poll proj.poll every 30s --overlap skip",
            "every 30 seconds, never two at a time",
        ),
    ],
    exit_codes={exit_codes.BAD_CONFIG: "the entry exists, a field is wrong, or this broker keeps no entries"},
    see_also=["schedule explain", "schedule edit", "beat"],
)
edit_page = CliCommand(
    "edit",
    callback=_edit,
    params=[
        _name,
        click.Option(["--schedule"], help="Crontab expression, interval, or event of the sun."),
        click.Option(["--task"], type=TaskName(), help="Name of the task."),
        *_FIELDS,
    ],
    groups=_GROUPS,
    changes=True,
    help="""Change an entry while schedulers run.

    Fields of an entry that the code declares are overridden until `schedule reset`.""",
    examples=[("qctl schedule edit nightly --schedule '30 5 * * *'", "at 5:30 from now on")],
    exit_codes=CODES,
    see_also=["schedule reset", "schedule show"],
)
reset_page = CliCommand(
    "reset",
    callback=_reset,
    params=[_name],
    changes=True,
    help="Drop what people changed of an entry that the code declares.",
    examples=[("qctl schedule reset nightly", "as the code declares it")],
    exit_codes=CODES,
    see_also=["schedule edit"],
)
rm_page = CliCommand(
    "rm",
    callback=_remove,
    params=[_name, *consent_options()],
    changes=True,
    help="""Delete an entry that was added with `schedule add`.

    An entry that the code declares is deleted there; here it can be paused.""",
    examples=[("qctl schedule rm poll --yes", "without asking")],
    exit_codes={**CODES, **CONSENT_CODES},
    see_also=["schedule pause"],
)
pause_page = CliCommand(
    "pause",
    callback=_pause,
    params=[_name],
    changes=True,
    help="Publish no instant of an entry until `schedule resume`.",
    examples=[("qctl schedule pause nightly --reason 'migration'", "the reason goes into the audit log")],
    exit_codes=CODES,
    see_also=["schedule resume"],
)
resume_page = CliCommand(
    "resume",
    callback=_resume,
    params=[_name],
    changes=True,
    help="Publish a paused entry again, from its next instant on.",
    examples=[("qctl schedule resume nightly", "what passed meanwhile is not published")],
    exit_codes=CODES,
    see_also=["schedule pause"],
)
run_page = CliCommand(
    "run",
    callback=_run,
    params=[_name],
    changes=True,
    help="Send the task of an entry now, beside its schedule; print the task id.",
    examples=[("qctl result $(qctl schedule run nightly)", "run it, and wait for its result")],
    exit_codes=CODES,
    see_also=["result", "schedule history"],
)
