"""`qctl task`: find, show and revoke single tasks. The commands are in this folder."""

from __future__ import annotations

from qctl import exit_codes
from qctl.cli.command import CliGroup
from qctl.commands.task.explain import pages
from qctl.commands.task.revoke import revoke_page, unrevoke_page
from qctl.commands.task.show import add_to

command = CliGroup(
    "task",
    help="Find, show and revoke single tasks.",
    examples=[
        ("qctl task ls state:running", "running tasks"),
        ("qctl task show 2f9c1e0a-…", "all facts about one task"),
        ("qctl task revoke 2f9c1e0a-…", "revoke it"),
    ],
    exit_codes=(exit_codes.NOT_FOUND,),
    subcommand_metavar="COMMAND [ARGUMENTS]...",
    see_also=["failed", "queue", "result", "help filters"],
)
add_to(command)
for page in (*pages(), revoke_page, unrevoke_page):
    command.add_command(page)
