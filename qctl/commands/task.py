"""`qctl task`: find tasks, look at them, follow them."""

from __future__ import annotations

from qctl import exits
from qctl.pages import PageGroup
from qctl.tasks.pages import add_to

command = PageGroup(
    "task",
    help="Find tasks, look at them, revoke them.",
    examples=[
        ("qctl task ls state:running", "what runs now"),
        ("qctl task show 2f9c1e0a-…", "everything known of one task"),
    ],
    exit_codes=(exits.NOT_FOUND,),
    subcommand_metavar="COMMAND [ARGUMENTS]...",
    see_also=["failed", "result", "help filters"],
)
add_to(command)
