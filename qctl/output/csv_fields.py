"""The fields of each list: the heading of csv, also for an empty list.

In:  the name of a list's schema.  Out: the names of its fields, in order.  JSON documents have the same ones.
A list that is not declared here has the fields of its items.
"""

from __future__ import annotations

_PAUSE = "paused paused_by pause_reason paused_at paused_until_at"
_STATUS = "node state age_s software pid host twins queues"
_ASIDE = "id queue reason at size task task_id"

_FIELDS = {
    "check": "level file line name what fix",
    "config": "key value source",
    "config.explain": "key value source wins remark",
    "control.shutdown": "node state",
    "ctx": "name current class broker result_backend app read_only queue colour",
    "dead": _ASIDE,
    "doctor": "level name about what fix",
    "failed": "id name queue worker exc_type exc_message args kwargs tries failed_at runtime_s root_id "
    "retry_of retried_as stored",
    "list.bindings": "queue exchange type routing_key workers",
    "logtool.incomplete": "id task received_at",
    "logtool.stats": "task received succeeded failed retried mean_s longest_s",
    "migrate": "source target moved delayed left waited",
    "multi": "node state pid log pidfile",
    "multi.show": "node command pid log",
    "quarantine": _ASIDE,
    "queue": f"queue ready delayed in_flight oldest_at consumers {_PAUSE} in_per_s out_per_s rates "
    "pause_ignored_by",
    "queue.peek": "id name queue state args kwargs priority eta_at due_at redelivered size_bytes problem",
    "status": _STATUS,
    "task": "id name state queue worker exc args kwargs result runtime_s tries sent_at received_at "
    "started_at ended_at due_at at root_id parent_id expires_at",
    "task.timeline": "what at after_ms worker",
    "task.unrevoke": "id done",
    "worker": "node state pool slots_used slots processed queues uptime_s version held software pid",
    "worker.drain": "node id name state age_s",
    "worker.restart": "node state",
    "worker.resume": "node reply",
}


def fields_of(schema: str) -> list[str]:
    """The fields of every item of the list; empty when they are not declared."""
    return _FIELDS.get(schema, "").split()
