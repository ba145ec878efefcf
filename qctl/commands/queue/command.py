"""`qctl queue`: list, inspect and change queues. The commands are in this folder."""

from __future__ import annotations

from qctl import exit_codes
from qctl.cli.command import CliGroup
from qctl.commands.queue.ls import page as ls_page
from qctl.commands.queue.messages import load_page, move_page, purge_page, save_page
from qctl.commands.queue.pause import drain_page, pause_page, resume_page
from qctl.commands.queue.peek import page as peek_page

command = CliGroup(
    "queue",
    help="List, peek, pause and drain queues; move and delete messages.",
    examples=[
        ("qctl queue ls", "queues with their message counts"),
        ("qctl queue peek mails --group-by name", "its messages, counted by task name"),
        ("qctl queue pause mails --for 30m", "workers stop consuming it for 30 minutes"),
        ("qctl queue move mails mails-later --limit 100", "move 100 messages"),
    ],
    exit_codes=(exit_codes.NOT_FOUND,),
    subcommand_metavar="COMMAND [ARGUMENTS]...",
    see_also=["purge", "inspect active_queues"],
)
for page in (
    ls_page,
    peek_page,
    pause_page,
    resume_page,
    drain_page,
    purge_page,
    move_page,
    save_page,
    load_page,
):
    command.add_command(page)
