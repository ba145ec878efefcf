"""`qctl dead`: dead-lettered tasks, whose runs crashed their process too often."""

from __future__ import annotations

from qctl import exit_codes
from qctl.cli.command import CliGroup
from qctl.commands.quarantine.group import QuarantineGroup

command = QuarantineGroup("dead", "crashed_too_often").add_to(
    CliGroup(
        "dead",
        help="""Dead-lettered tasks, which crashed their worker: show, replay.

        A task that crashed its process task_max_deliveries times is quarantined and not run again.""",
        examples=[
            ("qctl dead ls", "dead-lettered tasks, newest first"),
            ("qctl dead replay --all", "return all to their queues; asks for confirmation"),
        ],
        exit_codes=(exit_codes.NOT_FOUND,),
        subcommand_metavar="COMMAND [ARGUMENTS]...",
        see_also=["quarantine"],
    )
)
