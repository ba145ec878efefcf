"""`qctl schedule`: list and change the schedule. The commands are in this folder."""

from __future__ import annotations

from qctl import exit_codes
from qctl.cli.command import CliGroup
from qctl.commands.schedule import change, show

command = CliGroup(
    "schedule",
    help="List, explain and change the schedule while it runs.",
    examples=[
        ("qctl schedule ls", "entries, their next instants, what was missed"),
        ("qctl schedule add poll proj.poll every 30s", "add an entry"),
        ("qctl schedule pause nightly", "until `qctl schedule resume nightly`"),
        ("qctl schedule explain '*/5 * * * mon-fri'", "an expression in words"),
    ],
    exit_codes=(exit_codes.NOT_FOUND, exit_codes.BAD_CONFIG),
    subcommand_metavar="COMMAND [ARGUMENTS]...",
    see_also=["beat", "doctor"],
)
for page in (
    *(show.ls_page, show.show_page, show.next_page, show.history_page, show.explain_page),
    *(change.add_page, change.edit_page, change.reset_page, change.rm_page),
    *(change.pause_page, change.resume_page, change.run_page),
):
    command.add_command(page)
