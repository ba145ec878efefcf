"""`qctl dead`: dead-lettered tasks, whose runs crashed their process too often."""

from __future__ import annotations

from qctl import exit_codes
from qctl.cli.command import CliGroup
from qctl.commands.quarantine.group import QuarantineGroup

command = QuarantineGroup("dead", "crashed_too_often").add_to(
    CliGroup(
        "dead",
        help="""Dead-lettered tasks, which crashed their worker: show, replay.

        A task whose worker died task_max_deliveries times is set aside, so that it kills no more.""",
        examples=[
            ("qctl dead ls", "what was set aside, newest first"),
            ("qctl dead replay --all", "try them again, after a question"),
        ],
        exit_codes=(exit_codes.NOT_FOUND,),
        subcommand_metavar="COMMAND [ARGUMENTS]...",
        see_also=["quarantine"],
    )
)
