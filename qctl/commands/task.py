"""`qctl task`: single tasks, wherever they are. Its pages are in qctl/revoking.py."""

from __future__ import annotations

from qctl import exits
from qctl.pages import PageGroup
from qctl.revoking import revoke_page, unrevoke_page

command = PageGroup(
    "task",
    help="Do something to tasks, by id or by a filter.",
    examples=[("qctl task revoke 1f0c…", "it must not run")],
    exit_codes=(exits.NOT_FOUND,),
    subcommand_metavar="COMMAND [ARGUMENTS]...",
    see_also=["failed", "queue", "result"],
)
for page in (revoke_page, unrevoke_page):
    command.add_command(page)
