"""Which names each module of Celery has here, and what they are.

In:  the name of a module of Celery.  Out: for each of its names the place of the object that stands for it.
Source: the public modules of Celery 5.7.
"""

from __future__ import annotations

from functools import cache

_CANVAS = "Signature chain chord chunks group signature xmap xstarmap"

_UTILITIES = "qcore.celery.utilities"

#: module, place of the objects, names; `a=b` is the name `a` for what is called `b` there
_TABLE = f"""
celery qcore.celery.app Celery
celery qcore shared_task Task {_CANVAS}
celery qcore.celery.proxies current_app current_task
celery qcore.celery.own VERSION VERSION_BANNER __version__ version_info version_info_t SERIES
celery qcore.celery.own bugreport maybe_signature uuid
celery qcore.tasks.canvas subtask=signature
celery qcore.celery.programs maybe_patch_concurrency
celery._state qcore.celery.proxies current_app current_task get_current_app
celery._state qcore.celery.proxies get_current_task get_current_worker_task=get_current_task
celery._state qcore.celery.proxies app_or_default disable_trace enable_trace pop_current_task
celery._state qcore.celery.proxies push_current_task set_default_app
celery.app qcore.celery.app Celery
celery.app qcore.celery.own AppPickler bugreport
celery.app qcore.celery.proxies app_or_default disable_trace enable_trace pop_current_task
celery.app qcore.celery.proxies push_current_task
celery.app qcore.celery.proxies default_app=current_app
celery.app qcore shared_task
celery.app.base qcore.celery.app Celery
celery.app.control qcore.control.client Control
celery.app.control qcore.control.requests Inspect flatten_reply
celery.app.amqp qcore.celery.messaging AMQP Queues
celery.app.events qcore.events.api Events
celery.app.log qcore.celery.logs Logging TaskFormatter
celery.app.registry qcore.app.registry TaskRegistry
celery.app.task qcore.tasks.task Task
celery.app.utils {_UTILITIES} _redact_azure_connection_string
celery.app.trace qcore.celery.trace build_tracer task_has_custom trace_ok_t
celery.beat qcore.beat.classic EmbeddedService Service
celery.beat qcore.beat.answers BeatPidbox beat_nodename
celery.beat qcore.beat.classic_entry BeatLazyFunc ScheduleEntry SchedulingError event_t
celery.beat qcore.beat.classic_entry _evaluate_entry_args _evaluate_entry_kwargs
celery.beat qcore.beat.classic_file PersistentScheduler
celery.beat qcore.beat.classic_scheduler DEFAULT_MAX_INTERVAL Scheduler
celery.app.task qcore.tasks.request Context=Request
celery.backends.base qcore.app.backends Backend BaseBackend BaseDictBackend DisabledBackend
celery.backends.base qcore.app.backends SyncBackendMixin
celery.backends.base qcore.app.key_values BaseKeyValueStoreBackend KeyValueStoreBackend
celery.backends.base qcore.app.key_values _create_chord_error_with_cause
celery.backends.base qcore.app.backends get_current_task
celery.backends.cache qcore.app.store_backend CacheBackend=StoreBackend
celery.backends.database qcore.app.store_backend DatabaseBackend=StoreBackend
celery.backends.redis qcore.app.store_backend RedisBackend=StoreBackend
celery.bin.base qcore.celery.commands CeleryCommand CeleryOption CLIContext
celery.bin.base qcore.celery.commands handle_preload_options
celery.bootsteps qcore.worker.services.bootsteps Blueprint ConsumerStep StartStopStep Step StepType
celery.bootsteps qcore.worker.services.bootsteps CLOSE RUN TERMINATE
celery.canvas qcore {_CANVAS}
celery.canvas qcore.tasks.stamping StampingVisitor
celery.canvas qcore.tasks.canvas _chord=chord
celery.canvas qcore.celery.own maybe_signature maybe_subtask=maybe_signature
celery.canvas qcore.tasks.canvas subtask=signature
celery.concurrency.base qcore.pools.celery_pool BasePool apply_target
celery.contrib.abortable qcore.celery.abortable AbortableAsyncResult AbortableTask ABORTED
celery.contrib.pytest qcore.testing.celery_fixtures *
celery.contrib.rdb qcore.celery.rdb CELERY_RDB_HOST CELERY_RDB_PORT DEFAULT_PORT Rdb debugger set_trace
celery.contrib.testing.app qcore.testing.app DEFAULT_TEST_CONFIG TestApp Trap UnitLogging
celery.contrib.testing.app qcore.testing.app set_trap setup_default_app
celery.contrib.testing.mocks qcore.testing.mocks *
celery.contrib.testing.tasks qcore.testing.worker ping
celery.contrib.testing.worker qcore.testing.worker TestWorkController WORKER_LOGLEVEL
celery.contrib.testing.worker qcore.testing.worker setup_app_for_worker start_worker
celery.contrib.testing.worker qcore.testing.worker test_worker_started test_worker_starting
celery.contrib.testing.worker qcore.testing.worker test_worker_stopped
celery.events qcore.events.api Event EventDispatcher=Dispatcher EventReceiver=Receiver group_from
celery.events qcore.celery.messaging event_exchange get_exchange
celery.events.state qcore.events.cluster State
celery.events.state qcore.events.observed Task Worker heartbeat_expires
celery.events.dispatcher qcore.events.api EventDispatcher=Dispatcher
celery.events.event qcore.events.api Event group_from
celery.events.event qcore.celery.messaging event_exchange get_exchange
celery.events.receiver qcore.events.api EventReceiver=Receiver
celery.events.snapshot qcore.events.camera Polaroid
celery.events.snapshot qcore.celery.programs evcam
celery.contrib.django.task qcore.contrib.django DjangoTask
celery.exceptions qcore.errors AlreadyRegistered ChordError Ignore ImproperlyConfigured
celery.exceptions qcore.errors QueueNotFound InvalidTaskError MaxRetriesExceededError NotRegistered
celery.exceptions qcore.errors Reject Retry SoftTimeLimitExceeded TaskError TaskPredicate
celery.exceptions qcore.errors TaskRevokedError Terminated TimeLimitExceeded TimeoutError
celery.exceptions qcore.errors WorkerLostError CeleryError=QcoreError
celery.exceptions qcore.app.backends BackendError BackendGetMetaError BackendStoreError
celery.exceptions qcore.celery.own CDeprecationWarning CPendingDeprecationWarning
celery.exceptions qcore.celery.own CeleryCommandException CeleryWarning FixupWarning
celery.exceptions qcore.celery.own AlwaysEagerIgnored DuplicateNodenameWarning
celery.exceptions qcore.celery.own DuplicateTaskNameWarning IncompleteStream NotConfigured
celery.exceptions qcore.celery.own SecurityWarning
celery.exceptions qcore.errors SecurityError
celery.exceptions qcore.celery.own WorkerShutdown WorkerTerminate
celery.exceptions qcore.celery.texts reraise
celery.exceptions kombu.exceptions OperationalError
celery.loaders.app qcore.celery.loaders AppLoader
celery.loaders.base qcore.celery.loaders BaseLoader
celery.loaders.default qcore.celery.loaders Loader
celery.execute qcore.celery.proxies send_task
celery.log qcore.celery.proxies get_default_logger redirect_stdouts_to_logger setup_logging_subsystem
celery.messaging qcore.celery.proxies TaskConsumer establish_connection get_consumer_set
celery.fixups.django qcore.contrib.django DjangoFixup DjangoWorkerFixup fixup
celery.local qcore.celery.proxies Proxy
celery.local qcore.celery.promises PromiseProxy
celery.local qcore.celery.texts maybe_evaluate try_import
celery.registry qcore.celery.proxies tasks
celery.result qcore.tasks.result AsyncResult GroupResult ResultSet result_from_tuple
celery.result qcore.execution.eager EagerResult
celery.result qcore.tasks.result_sets ResultBase=Revocable
celery.result qcore.tasks.joins allow_join_result assert_will_not_block denied_join_result
celery.schedules qcore.schedules.classes BaseSchedule cronfield crontab maybe_schedule schedstate
celery.schedules qcore.schedules.classes schedule solar
celery.schedules qcore.schedules.fields ParseException crontab_parser
celery.security qcore.app.security disable_untrusted_serializers setup_security
celery.security qcore.wire.signing register_auth
celery.security.certificate qcore.wire.signing Certificate CertStore FSCertStore
celery.security.key qcore.wire.signing PrivateKey
celery.security.serialization qcore.wire.signing SecureSerializer register_auth
celery.security.utils qcore.wire.signing get_digest_algorithm reraise_errors
celery.signals qcore.signals *
celery.states qcore.tasks.states *
celery.utils qcore.celery.own uuid gen_unique_id=uuid get_full_cls_name
celery.utils kombu.utils.objects cached_property
celery.utils kombu.utils.imports get_cls_by_name=symbol_by_name
celery.utils qcore.celery.loaders import_from_cwd
celery.utils qcore.celery.logs LOG_LEVELS
celery.utils kombu.utils.functional memoize
celery.utils {_UTILITIES} chunks gen_task_name instantiate nodename nodesplit noop worker_direct
celery.utils.functional kombu.utils.functional LRUCache dictfilter is_list lazy
celery.utils.functional kombu.utils.functional maybe_evaluate maybe_list memoize
celery.utils.functional {_UTILITIES} chunks first firstmethod fun_accepts_kwargs mattrgetter
celery.utils.functional {_UTILITIES} maybe noop padlist uniq
celery.utils.functional qcore.celery.texts head_from_fun regen
celery.utils.functional qcore.celery.promises mlazy
celery.utils.imports {_UTILITIES} gen_task_name instantiate qualname
celery.utils.imports qcore.celery.texts NotAPackage cwd_in_path find_module module_file reload_from_cwd
celery.utils.iso8601 {_UTILITIES} parse_iso8601
celery.utils.nodenames {_UTILITIES} anon_nodename default_nodename host_format node_format nodename
celery.utils.nodenames {_UTILITIES} nodesplit worker_direct
celery.utils.nodenames socket gethostname
celery.utils.serialization {_UTILITIES} strtobool
celery.utils.serialization qcore.wire.pickles UnpickleableExceptionWrapper
celery.utils.serialization qcore.celery.pickled_errors create_exception_cls find_pickleable_exception
celery.utils.serialization qcore.celery.pickled_errors get_pickleable_etype get_pickleable_exception
celery.utils.serialization qcore.celery.pickled_errors get_pickled_exception subclass_exception
celery.utils.text qcore.celery.texts abbrtask dedent_initial ensure_newlines ensure_sep
celery.utils.text qcore.celery.texts fill_paragraphs pretty simple_format
celery.utils.text {_UTILITIES} abbr dedent indent join pluralize str_to_list truncate
celery.utils.time {_UTILITIES} add_seconds_to_datetime
celery.utils.time {_UTILITIES} get_exponential_backoff_interval humanize_seconds is_naive localize
celery.utils.time {_UTILITIES} make_aware maybe_iso8601 maybe_make_aware maybe_timedelta rate
celery.utils.time {_UTILITIES} LocalTimezone add_seconds_to_datetime remaining subtract_datetimes
celery.utils.time {_UTILITIES} timezone to_utc weekday
celery.utils.time qcore.schedules.classes ffwd
celery.utils.time qcore.celery.texts adjust_timestamp delta_resolution utcoffset
celery.utils.dispatch qcore.celery.own Signal
celery.utils.dispatch.signal qcore.celery.own Signal
celery.utils.imports kombu.utils.imports symbol_by_name
celery.utils.imports qcore.celery.loaders import_from_cwd
celery.utils.log qcore.celery.logs ColorFormatter LOG_LEVELS LoggingProxy mlevel
celery.utils.log qcore.celery.logs get_multiprocessing_logger in_sighandler
celery.utils.log qcore.celery.logs reset_multiprocessing_logger set_in_sighandler
celery.utils.log qcore.celery.own get_logger get_task_logger base_logger task_logger
celery.utils.serialization qcore.celery.own b64decode b64encode
celery.apps.beat qcore.celery.programs Beat
celery.apps.worker qcore.celery.programs Worker=AppWorker
celery.worker qcore.celery.programs WorkController
celery.worker.autoscale qcore.worker.services.bootsteps WorkerComponent
celery.worker.components qcore.worker.services.bootsteps Beat Consumer Hub Pool StateDB Timer
celery.worker.consumer qcore.worker.services.bootsteps Agent Connection Control Events Gossip
celery.worker.consumer qcore.worker.services.bootsteps Heart Mingle Tasks
celery.worker.consumer.agent qcore.worker.services.bootsteps Agent
celery.worker.consumer.connection qcore.worker.services.bootsteps Connection
celery.worker.consumer.consumer qcore.worker.services.bootsteps Evloop
celery.worker.consumer.control qcore.worker.services.bootsteps Control
celery.worker.consumer.delayed_delivery qcore.worker.services.bootsteps DelayedDelivery
celery.worker.consumer.events qcore.worker.services.bootsteps Events
celery.worker.consumer.gossip qcore.worker.services.bootsteps Gossip
celery.worker.consumer.heart qcore.worker.services.bootsteps Heart
celery.worker.consumer.mingle qcore.worker.services.bootsteps Mingle
celery.worker.consumer.tasks qcore.worker.services.bootsteps Tasks
celery.worker.control qcore.control.commands.base control_command inspect_command
celery.worker.control qcore.control.commands.panel Panel
celery.worker.request qcore.worker.services.task_signals Request=TaskRequest
"""


@cache
def views() -> dict[str, dict[str, str]]:
    """For each module: name -> `module:attribute`. The name `*` stands for all names of a module."""
    found: dict[str, dict[str, str]] = {}
    for line in _TABLE.split("\n"):
        module, place, *names = line.split() or ("", "")
        for name in names:
            ours, _, theirs = name.partition("=")
            found.setdefault(module, {})[ours] = f"{place}:{theirs or ours}"
        while module := module.rpartition(".")[0]:
            found.setdefault(module, {})  # a package without names of its own
    found.pop("", None)
    return found
