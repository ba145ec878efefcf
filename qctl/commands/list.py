"""`qctl list bindings`: the bindings of queues to exchanges."""

from __future__ import annotations

from typing import Any

from qctl import exit_codes
from qctl.cli.command import CliCommand, CliGroup
from qctl.cli.session import current
from qctl.output.table import Column

COLUMNS = [
    Column("QUEUE"),
    Column("EXCHANGE"),
    Column("TYPE"),
    Column("ROUTING KEY"),
    Column("WORKERS", True),
]

command = CliGroup(
    "list",
    help="List the bindings of queues.",
    examples=[("qctl list bindings", "queues with their exchanges and routing keys")],
    subcommand_metavar="COMMAND",
    see_also=["queue ls"],
)


def _bindings() -> None:
    session = current()
    found: dict[tuple[str, str, str, str], int] = {}
    conf = session.app.conf
    for queue in conf.task_queues or (conf.task_default_queue,):
        found.setdefault(_configured(queue), 0)
    answers = session.app.control.ask("active_queues", timeout_s=session.options.timeout or 0.5)
    for reply in answers.replies.values():
        for queue in reply if isinstance(reply, list) else ():
            row = _row(queue)
            if row is not None:
                found[row] = found.get(row, 0) + 1
    items = [
        {"queue": q, "exchange": e, "type": t, "routing_key": k, "workers": n}
        for (q, e, t, k), n in sorted(found.items())
    ]
    session.out.items(
        "list.bindings", items, COLUMNS, [[str(v) for v in item.values()] for item in items], "queue"
    )


def _configured(queue: Any) -> tuple[str, str, str, str]:
    """A queue of the settings: a name, or an object with kombu's attributes."""
    name = str(getattr(queue, "name", queue))
    exchange = getattr(queue, "exchange", None)
    return (
        name,
        str(getattr(exchange, "name", None) or name),
        str(getattr(exchange, "type", None) or "direct"),
        str(getattr(queue, "routing_key", None) or name),
    )


def _row(queue: Any) -> tuple[str, str, str, str] | None:
    if not isinstance(queue, dict) or not isinstance(queue.get("exchange"), dict):
        return None
    exchange = queue["exchange"]
    fields = (queue.get("name"), exchange.get("name"), exchange.get("type"), queue.get("routing_key"))
    return tuple(str(f or "") for f in fields)  # type: ignore[return-value]


command.add_command(
    CliCommand(
        "bindings",
        callback=_bindings,
        params=[],
        help="""List the bindings of queues to exchanges.

        Includes the queues of the app's settings and those that workers consume; WORKERS is their number.""",
        examples=[("qctl -A proj list bindings -o json", "for scripts")],
        exit_codes=(exit_codes.BAD_CONFIG,),
        see_also=["queue ls", "inspect active_queues"],
    )
)
