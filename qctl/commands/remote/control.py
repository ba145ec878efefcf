"""`qctl control`: change workers at run time. The commands come from qcore's command table."""

from qctl.commands.remote.group import BusGroup

command = BusGroup(
    "control",
    "control",
    help="""Change workers at run time.

    Without -d every worker is told. Each says what it did; a refusal is an error.""",
    examples=[
        ("qctl control rate_limit proj.add 10/m", "start it at most ten times a minute"),
        ("qctl control revoke 2f9c1e0a", "do not run this task"),
        ("qctl control enable_events", "let the dashboard see tasks"),
        ("qctl control shutdown -d w1@host", "stop one worker; its tasks finish first"),
    ],
    see_also=["inspect", "status"],
)
