"""qcore, Celery, its peers and two roofs on the same Redis, the same task: `python -m benchmarks`.

lineup.py       who takes part
contestants/    a file each: a task that does nothing, publishing, workers, counting results
environments/   the pinned packages of each; venvs.py installs them into .bench/venvs
runtimes.py     node with npm's packages and ruby with the system's gems, for those that are not Python's
figures/        what is measured, a file each
sizes.py        how much of it
client.py       the process in which one measurement of one contestant runs
crowd.py        idle workers in great number
arena.py        a private server, workers, clients
machine.py      CPU and memory from /proc
goals.py        what is to be reached
table.py        medians, ratios, verdicts
report.py       the report
__main__.py     the plan and the rounds
"""
