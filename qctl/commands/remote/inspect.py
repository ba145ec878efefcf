"""`qctl inspect`: query workers. The commands come from qcore's command table."""

from qctl.commands.remote.group import BusGroup

command = BusGroup(
    "inspect",
    "inspect",
    help="""Query workers: active, reserved, registered, stats.

    The command ends when every online worker has replied; an online worker that does
    not reply within the timeout (-t, 1 second) is named.""",
    examples=[
        ("qctl inspect active", "running tasks"),
        ("qctl inspect stats -d 'w1@*'", "statistics of one worker"),
        ("qctl inspect query_task 2f9c1e0a -o json", "which worker holds a task"),
    ],
    see_also=["control", "status", "events"],
)
