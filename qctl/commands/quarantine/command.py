"""`qctl quarantine`: malformed messages and dead-lettered tasks, kept byte for byte."""

from __future__ import annotations

from qctl import exit_codes
from qctl.cli.command import CliGroup
from qctl.commands.quarantine.group import QuarantineGroup

command = QuarantineGroup("quarantine", None).add_to(
    CliGroup(
        "quarantine",
        help="""Malformed messages in quarantine: show, replay, delete.

        A message that a worker cannot read is neither run nor lost: it is quarantined with the reason.""",
        examples=[
            ("qctl quarantine ls", "quarantined messages, newest first"),
            ("qctl quarantine show 17", "the bytes of one message"),
            ("qctl quarantine replay 17", "return it to its queue"),
        ],
        exit_codes=(exit_codes.NOT_FOUND,),
        subcommand_metavar="COMMAND [ARGUMENTS]...",
        see_also=["dead"],
    )
)
