"""Which names each module of Celery has here, and what they are.

In:  the name of a module of Celery.  Out: for each of its names the place of the object that stands for it.
Source: the public modules of Celery 5.7.
"""

from __future__ import annotations

from functools import cache

_CANVAS = "Signature chain chord chunks group signature xmap xstarmap"

#: module, place of the objects, names; `a=b` is the name `a` for what is called `b` there
_TABLE = f"""
celery qcore.celery.app Celery
celery qcore shared_task Task {_CANVAS}
celery qcore.celery.proxies current_app current_task
celery qcore.celery.own VERSION __version__ version_info SERIES bugreport uuid
celery qcore.celery.own maybe_signature subtask=maybe_signature
celery._state qcore.celery.proxies current_app current_task get_current_app
celery._state qcore.celery.proxies get_current_task get_current_worker_task=get_current_task
celery._state qcore.celery.proxies set_default_app
celery.app qcore.celery.app Celery app_or_default
celery.app qcore.celery.own bugreport
celery.app qcore.celery.proxies default_app=current_app
celery.app qcore shared_task
celery.app.base qcore.celery.app Celery
celery.app.control qcore.control.client Control Inspect
celery.app.task qcore.tasks.task Task
celery.app.task qcore.tasks.request Context=Request
celery.backends.base qcore.app.backends Backend BaseBackend BaseDictBackend BaseKeyValueStoreBackend
celery.backends.base qcore.app.backends DisabledBackend KeyValueStoreBackend SyncBackendMixin
celery.backends.base qcore.app.backends get_current_task
celery.backends.cache qcore.app.store_backend CacheBackend=StoreBackend
celery.backends.database qcore.app.store_backend DatabaseBackend=StoreBackend
celery.backends.redis qcore.app.store_backend RedisBackend=StoreBackend
celery.canvas qcore {_CANVAS}
celery.canvas qcore.celery.own maybe_signature subtask=maybe_signature
celery.exceptions qcore.errors AlreadyRegistered ChordError Ignore ImproperlyConfigured
celery.exceptions qcore.errors InvalidTaskError MaxRetriesExceededError NotRegistered
celery.exceptions qcore.errors Reject Retry SoftTimeLimitExceeded TaskError TaskPredicate
celery.exceptions qcore.errors TaskRevokedError Terminated TimeLimitExceeded TimeoutError
celery.exceptions qcore.errors WorkerLostError CeleryError=QcoreError
celery.exceptions qcore.app.backends BackendError BackendGetMetaError BackendStoreError
celery.exceptions qcore.celery.own CDeprecationWarning CPendingDeprecationWarning
celery.exceptions qcore.celery.own CeleryCommandException CeleryWarning FixupWarning
celery.exceptions qcore.celery.own AlwaysEagerIgnored DuplicateNodenameWarning
celery.exceptions qcore.celery.own DuplicateTaskNameWarning IncompleteStream NotConfigured
celery.exceptions qcore.celery.own QueueNotFound SecurityError SecurityWarning
celery.exceptions qcore.celery.own WorkerShutdown WorkerTerminate
celery.exceptions kombu.exceptions OperationalError
celery.local qcore.celery.proxies Proxy
celery.result qcore.tasks.result AsyncResult GroupResult ResultSet result_from_tuple
celery.result qcore.celery.own allow_join_result
celery.result qcore.execution.eager EagerResult
celery.schedules qcore.celery.schedules crontab schedule solar
celery.signals qcore.signals *
celery.states qcore.tasks.states *
celery.utils qcore.celery.own uuid gen_unique_id=uuid get_full_cls_name
celery.utils.dispatch qcore.signals Signal
celery.utils.dispatch.signal qcore.signals Signal
celery.utils.log qcore.celery.own get_logger get_task_logger base_logger task_logger
celery.utils.serialization qcore.celery.own b64decode b64encode
celery.utils.time qcore.celery.own maybe_timedelta
"""


@cache
def views() -> dict[str, dict[str, str]]:
    """For each module: name -> `module:attribute`. The name `*` stands for all names of a module."""
    found: dict[str, dict[str, str]] = {"celery.contrib": {}, "celery.backends": {}}
    for line in _TABLE.split("\n"):
        module, place, *names = line.split() or ("", "")
        for name in names:
            ours, _, theirs = name.partition("=")
            found.setdefault(module, {})[ours] = f"{place}:{theirs or ours}"
    found.pop("", None)
    return found
