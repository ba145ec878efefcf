"""Extract, transform, load: each source in a chain, all sources in a chord, rows in chunks.

    celery -A etl worker        and then        python -c "import etl; etl.main()"

REDIS_URL is the broker and the store of results; ETL_TARGET the folder where tables are written.
"""

import json
import os
from pathlib import Path

from celery import Celery, chain, chord, group

url = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
app = Celery("etl", broker=url, backend=url)
app.conf.update(task_acks_late=True, worker_prefetch_multiplier=1, result_expires=3600)

#: what a real pipeline would read from files or services
SOURCES = {
    "berlin": ["3;lamp", "5;table", "x;chair"],
    "paris": ["1;lamp", "", "2;bed"],
    "rome": ["7;table"],
}


class BrokenSource(Exception):
    pass


def target(name):
    folder = Path(os.environ.get("ETL_TARGET", "tables"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.json"


@app.task
def extract(source):
    """The rows of a source."""
    if source not in SOURCES:
        raise BrokenSource(source)
    return [line for line in SOURCES[source] if line]


@app.task
def transform(rows):
    """Rows as [amount, article]; a row without an amount is dropped."""
    parsed = [line.split(";") for line in rows]
    return [[int(amount), article] for amount, article in parsed if amount.isdigit()]


@app.task
def load(rows, table):
    """Write a table. Returns its name and its number of rows."""
    target(table).write_text(json.dumps(sorted(rows)))
    return [table, len(rows)]


@app.task
def finish(loaded):
    """Called once with what every source gave."""
    summary = dict(loaded)
    target("summary").write_text(json.dumps(summary, sort_keys=True))
    return summary


@app.task
def complain(request, exc, traceback):
    """Called when a source is broken: nothing is finished then."""
    target("complaint").write_text(json.dumps([type(exc).__name__, request.task]))


@app.task
def check(row, limit):
    return row <= limit


@app.task
def share(total, parts):
    return total // parts


@app.task
def finish_rows(parts):
    return sorted(row for part in parts for row in part)


def pipeline(sources):
    """One chain for each source, and finish() when all have ended."""
    return chord(
        [chain(extract.s(name), transform.s(), load.s(name)) for name in sources],
        finish.s().on_error(complain.s()),
    )


def main():
    found = {"summary": pipeline(SOURCES).delay().get(timeout=60)}
    checks = check.chunks([(n, 50) for n in range(100)], 30).group().delay()
    found["checked"] = [sum(part) for part in checks.get(timeout=60)]
    found["shares"] = group(share.s(100, n) for n in (1, 2, 4)).delay().get(timeout=60)
    found["mapped"] = extract.map(["rome", "paris"]).delay().get(timeout=60)
    found["nested"] = (
        chain(group(extract.si("rome"), extract.si("paris")), finish_rows.s()).delay().get(timeout=60)
    )
    broken = pipeline(["berlin", "atlantis"]).delay()
    try:
        broken.get(timeout=60)
    except BrokenSource as exc:
        found["broken"] = str(exc)
    print(json.dumps(found, sort_keys=True))
