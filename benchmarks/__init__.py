"""qcore and Celery on the same Redis, the same task, the same machine: `python -m benchmarks`.

contestants/    what is compared: an app with one task that does nothing, and a worker command
publish.py      one call at a time
bulk.py         many calls at once
drain.py        a full queue worked off, results stored
roundtrip.py    delay().get(), one after the other
operators.py    how long the operator's commands take with three workers
client.py       the process in which one measurement of one contestant runs
table.py        medians, ratios, the table
__main__.py     a private server, rounds, the report
"""
