"""The meaning of each output field, for `qctl explain`; tests check that no field is missing.

In:  nothing.  Out: field name -> meaning. A field that differs in one document has the key `schema.field`,
with the schema's name without the `qctl.` in front.
"""

from __future__ import annotations

MEANINGS: dict[str, str] = {
    # --- every document
    "schema": "the kind of document: qctl. and the command",
    "version": (
        "of documents: version of the schema; within one, fields are only "
        "added. Of workers: version of their software"
    ),
    "items": "the list",
    "message": "text of a remark or an error",
    "hint": "what to do about an error",
    "code": "the exit code; `qctl help exit-codes`",
    "retryable": "whether a second try of the command may succeed",
    "dry_run": "whether nothing was changed because of --dry-run",
    "gone": "with --watch: the item of this name no longer exists",
    # --- workers
    "node": "the name of a worker, NAME@HOST",
    "nodes": "names of workers",
    "worker": "the worker that ran the task, or that the item is about",
    "workers": "how many workers, or their names",
    "replies": "replies by name of the worker",
    "reply": "reply of the worker",
    "silent": "online workers that did not answer within the timeout",
    "unknown": "workers that were asked for by name and are not known",
    "heard": "how many workers received the request; null if the broker does not report it",
    "age_s": "seconds since the last heartbeat, or since the start",
    "software": "software of the worker and its version; null if unknown",
    "pid": "process id",
    "host": "the host it runs on",
    "twins": "processes that use the same worker name; each needs its own (-n)",
    "pool": "worker pool: prefork, threads, asyncio, gevent, solo",
    "processes": "process ids of the pool",
    "slots": "concurrency: how many tasks can run at once",
    "slots_used": "how many tasks run now; null if unknown",
    "processed": "tasks started since the start of the worker, retries too; null if unknown",
    "held": "messages that the worker has and has not acknowledged, running tasks too; null if unknown",
    "uptime_s": "uptime of the worker in seconds",
    "what": "description of the item",
    "ok": "whether the check passed",
    "why": "why the check failed",
    # --- tasks
    "id": "id of the task, or of the quarantined message",
    "ids": "ids of tasks",
    "name": "the name: of a task, a check, a context",
    "task": "the name of a task",
    "state": "tasks: queued, delayed, reserved, running, succeeded, failed, retrying, revoked, rejected; "
    "workers: online, draining, silent, gone; in `worker ls` running for online",
    "args": "positional arguments",
    "kwargs": "arguments by name",
    "result": "what the task returned, or its error",
    "traceback": "where it failed, as Python prints it",
    "cause": (
        "why the task is where it is, a fixed word: running, behind, prefetched, paused_queue, no_consumer, "
        "unknown_task, waits_for_time, rate_limited, revoked, expired, silent_worker, finished, set_aside, "
        "unknown_id"
    ),
    "sentence": "the cause in words",
    "evidence": "lines of text that support the cause",
    "is_certain": "whether all workers answered that may have the task",
    "doing": (
        "what a running task does: python (executes Python code), c_wait or c_compute (in a call into C), "
        "await (a coroutine), switched (a greenlet), unknown"
    ),
    "waits_in": "the kernel's function that it waits in, or the type of what a coroutine awaits",
    "frames": "its calls, the most recent one last: file, line, function and code",
    "task.stack.problem": "why there are no frames; null: there are",
    "worker.stack.problem": "why there are no frames; null: there are",
    "exception": "type and text of the error",
    "exc_type": "the type of the error",
    "exc_message": "the text of the error",
    "tries": "number of attempts",
    "retries": "number of retries",
    "runtime_s": "run time in seconds",
    "received_at": "when a worker received it",
    "failed_at": "when its last attempt failed",
    "finished_at": "when it ended",
    "due_at": "earliest time of its run, epoch seconds; null: at once",
    "last_at": "when it was seen last",
    "first_at": "when it was seen first",
    "root_id": "id of the root task of the workflow",
    "parent_id": "id of the task that sent it",
    "group_id": "id of its group",
    "retry_of": "id of the failed task that this one retries",
    "stored": "whether the failed task is stored with its message and can be retried; of a group: how many",
    "retried_as": "id of the task that retries it",
    "sample": "an example of the group",
    "count": "how many",
    "headers": "headers of the message",
    "content_type": "serializer of the body",
    "body": "its body",
    "raw": "the raw message as text",
    # --- queues and messages
    "queue": "name of the queue; of contexts: the default queue",
    "queues": "names of queues",
    "ready": "ready messages",
    "delayed": "delayed messages (eta, countdown)",
    "in_flight": "messages in flight (held by workers); null if the broker does not report it",
    "paused": "whether the queue is paused",
    "depth": "messages that are ready, delayed or in flight",
    "exchange": "AMQP: name of the exchange",
    "routing_key": "AMQP: routing key",
    "type": "of exchanges: direct, topic, fanout; of events: the event type",
    "source": "source: a queue, or the place that sets a setting",
    "target": "the queue that it goes to",
    "moved": "how many messages were moved",
    "deleted": "number of deleted messages; of quarantined messages: whether it was deleted",
    "replayed": "whether it was returned to its queue",
    "waited": "backlog before the command",
    "waited_s": "seconds spent waiting",
    "left": "how many remain",
    "size": "bytes",
    "reason": "why it was quarantined, or why something was changed (--reason)",
    "at": "time, RFC 3339 in UTC",
    # --- conditions, checks, settings
    "condition": "the condition that was waited for",
    "met": "whether the condition holds",
    "facts": "observed values that the condition was compared with",
    "level": "error or warning",
    "fix": "the command that fixes it",
    "about": "the worker, queue or task concerned",
    "round_trip_s": "round trip to the broker in seconds",
    "reachable": "whether the broker could be reached",
    "key": "the name of a setting or of an argument",
    "value": "its value; secrets are hidden",
    "wins": "whether the value of this place takes effect",
    "remark": "settings of an app: how it compares with Celery's: no effect, different, or the same",
    "context": "the context in use; null: none",
    "current": "whether it is the current context",
    "class": "class of the context; prod is read-only by default",
    "read_only": "whether qctl refuses changes there",
    "colour": "the colour of its name",
    "broker": "the address of the broker; its password is hidden",
    "result_backend": "the address of the result store; its password is hidden",
    "app": "the app, as -A",
    "user": "the user who made the change",
    "command": "the command line, without secrets",
    "text": "the report, as it is printed",
    "needs": "what must start before it",
    "field": "the name of a field",
    "meaning": "meaning of the field",
    # --- queues and their messages
    "consumers": "how many workers consume the queue; null if not asked, or if one that may did not answer",
    "done": "whether, or how far, it was completed",
    "drained": "whether the queue was empty with nothing in flight at the end of the command",
    "ended_at": "when the task ended",
    "eta_at": "earliest start (eta)",
    "file": "the file that was written or read",
    "in_per_s": "arrival rate, messages per second; null: needs two measurements",
    "out_per_s": "departure rate, messages per second; null: unknown",
    "rates": "source of the rates: workers (their heartbeats) or net (difference of two measurements: at "
    "least that many came or left; the other rate is null)",
    "oldest_at": "when the oldest ready message became ready; null if the broker does not report it",
    "pause_reason": "why the queue was paused",
    "paused_at": "when it was paused",
    "paused_by": "who paused it",
    "pause_ignored_by": "Celery workers that consume the paused queue all the same; null: not asked",
    "task_id": "id of the task; null if the message cannot be read",
    "expired": "whether it waits although its time to run is over",
    "expires_at": "when the task expires: a worker that takes it later drops it; null: never, or unknown",
    "paused_until_at": "when it resumes automatically; null: only with `qctl queue resume`",
    "priority": "priority, 0 (first) to 9",
    "problem": "why the message is malformed; null: it is a task",
    "redelivered": "redelivered: whether a run of it may have started before",
    "saved": "number of messages written to the file",
    "sent_at": "when the task was sent, according to its events",
    "size_bytes": "size of the message in bytes",
    "started_at": "when the task started",
}


def meaning(field: str) -> str | None:
    """The meaning of an output field or a filter field; None for an unknown field."""
    from qctl.filters.fields import FIELDS

    found = MEANINGS.get(field)
    if found is None and field in FIELDS:
        return f"{FIELDS[field].words} (in filters: {FIELDS[field].example})"
    return found
