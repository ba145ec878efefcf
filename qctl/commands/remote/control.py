"""`qctl control`: change workers at run time. The commands come from qcore's command table."""

from qctl.commands.remote.group import BusGroup

command = BusGroup(
    "control",
    "control",
    help="""Change workers at run time.

    Without -d the request goes to all workers. Each replies; a refusal is an error.""",
    examples=[
        ("qctl control rate_limit proj.add 10/m", "at most ten runs per minute and worker"),
        ("qctl control revoke 2f9c1e0a", "revoke a task"),
        ("qctl control enable_events", "send task events, for the dashboard"),
        ("qctl control shutdown -d w1@host", "stop one worker; running tasks finish first"),
    ],
    see_also=["inspect", "status"],
)
