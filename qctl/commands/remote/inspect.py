"""`qctl inspect`: query workers. The commands come from qcore's command table."""

from qctl.commands.remote.group import BusGroup

command = BusGroup(
    "inspect",
    "inspect",
    help="""Query workers: active, reserved, registered, stats.

    An answer is complete as soon as every worker that is there has replied; a worker that is there
    and silent is named. -t says how long to wait for it (1 second).""",
    examples=[
        ("qctl inspect active", "tasks that run now"),
        ("qctl inspect stats -d 'w1@*'", "numbers of one worker"),
        ("qctl inspect query_task 2f9c1e0a -o json", "where a task is"),
    ],
    see_also=["control", "status", "events"],
)
