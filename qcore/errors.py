"""All errors that qcore raises, in one tree.

QcoreError
├── ConfigError                 a setting, URL or app is not usable
│   ├── UnknownName             no plug-in, setting or command has that name (lists near misses)
│   ├── BadSchedule             a schedule, or a text that should be one, is not valid (has the position)
│   └── AppNotFound             the app that -A names cannot be loaded
├── BrokerError
│   ├── BrokerDown              the broker is unreachable, or the connection broke
│   ├── BrokerBusy              another process locks the broker for too long
│   ├── BrokerFull              the broker has no space for the message
│   ├── NotReplicated           published, but on fewer replicas than required
│   ├── Unroutable              published to a queue or exchange that does not exist
│   └── Unsupported             the driver does not support the operation
├── PoolBroken                  the pool cannot continue; its running tasks must be returned
├── ResultError
│   ├── IncompleteStream        iterdeps() came to a result that is not ready
│   └── ResultsNotKept          no result store is configured
├── EncodeError                 arguments or a result that the serializer cannot represent
├── Malformed                   bytes that are not a task (reason code, task id if readable)
├── SecurityError               a signature, certificate or key is not valid
├── TaskError                   Celery's names: NotRegistered, TimeoutError, TaskRevokedError, …
└── TaskPredicate               raised by tasks to end a run: Retry, Ignore, Reject

SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError and Terminated are no QcoreErrors, as in Celery, so
that the `except` clauses of tasks work alike. ColdShutdown is no error: it ends the run of a solo worker.

BrokerDown, EncodeError and the four just named are also instances of the classes of kombu and billiard with
the same meaning (CaughtAs), which Celery raises.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Self, cast

from qcore.base.lazy_pattern import lazily


def near_misses(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """The known names that are most similar to `name`, best first."""
    import difflib  # only an error message needs it

    names = sorted(set(known))
    for cutoff in (0.8, 0.6):  # a very similar name suppresses the less similar ones
        found = difflib.get_close_matches(name, names, n=limit, cutoff=cutoff)
        if found:
            return found
    return [n for n in names if name and (n.startswith(name) or name in n)][:limit]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The text '; did you mean 'x'?', or '' without a near miss."""
    near = near_misses(name, known)
    if not near:
        return ""
    return "; did you mean " + " or ".join(f"'{n}'" for n in near) + "?"


HIDDEN = "********"
# A scheme, also a mistyped one (`redis:/`, `redis//`). Each part has a maximum length, so that the search
# takes linear time.
_SCHEME = r"(?<![a-z0-9+._-])[a-z][a-z0-9+._-]{0,30}(?::+/+|//+)"
# Passwords may contain unescaped characters: in running text they end at a blank or a quote, or at the start
# of another URL. The text is processed in runs without blanks, so that the search takes linear time.
_RUN = lazily(r"[^\s\"<>]+")
_URL_STARTS = lazily(r"(?=(?<![a-z0-9+._-])[a-z][a-z0-9+._-]{0,30}://)", re.I)
_USER = lazily(rf"{_SCHEME}[^\s:/@]{{0,256}}:", re.I)
# The second half is of Azure's connection strings.
_QUERY_SECRET = lazily(
    r"(?P<head>(?:[?&][\w.-]{0,40}(?:password|passwd|secret|token)|[;/?&](?:AccountKey|SharedAccessSignature|sig))=)"
    r"[^&;\s\"<>]+",
    re.I,
)
_WHOLE = lazily(rf"(?P<head>{_SCHEME})(?P<rest>.*)", re.I | re.S)
_NEXT_URL = lazily(rf";(?={_SCHEME})", re.I)
_WHOLE_QUERY = lazily(r"(?P<head>[?&][\w.-]{0,40}(?:password|passwd|secret|token)=)[^&]+", re.I)
#: shortest password, in characters, that is also masked outside of URLs
LONG_SECRET = 5
MOST_SECRETS = 256
# Client libraries split URLs at these characters: their messages may quote parts of such a password.
_CUT = lazily(r"[/#?\s@]")
#: secret text -> its replacement; longer texts are replaced first
_secrets: dict[str, str] = {}


def keep_secret(url: str) -> None:
    """Register the passwords in `url`, so that mask_url() also masks the parts of them that client libraries
    quote. url: one URL, or several joined by `;`."""
    if not isinstance(url, str) or url in _secrets or ("@" not in url and "=" not in url):
        return
    words = []
    for one in _NEXT_URL.split(url):
        found = _WHOLE.match(one)
        userinfo, at, _ = (found["rest"] if found else "").rpartition("@")
        words += [userinfo.partition(":")[2]] if at else []
        words += [m.group().partition("=")[2] for m in _WHOLE_QUERY.finditer(one)]
    # The patterns find all others within their URLs; outside of URLs such a password may be a common word.
    odd = [word for word in words if _CUT.search(word)]
    if not odd:
        return
    while len(_secrets) > MOST_SECRETS:
        _secrets.pop(next(iter(_secrets)), None)  # the oldest
    _secrets[url] = _mask_whole(url)
    for word in odd:
        _secrets.update((p, HIDDEN) for p in (word, *_CUT.split(word)) if len(p) >= LONG_SECRET)


def mask_url(text: str) -> str:
    """`text` with the passwords of its URLs, and those registered by keep_secret(), replaced by asterisks."""
    if _secrets:
        for secret in sorted(_secrets, key=len, reverse=True):
            if secret in text:
                text = text.replace(secret, _secrets.get(secret, HIDDEN))
    if "@" in text:
        text = _RUN.sub(_masked_run, text)
    return _QUERY_SECRET.sub(lambda m: f"{m['head']}{HIDDEN}", text) if "=" in text else text


def _masked_run(found: re.Match[str]) -> str:
    """A text without blanks, with the passwords of its URLs masked."""
    run = found.group()
    if "@" not in run:
        return run
    parts = []
    for part in _URL_STARTS.split(run):
        user = _USER.search(part) if "@" in part else None
        end = part.rfind("@")
        parts.append(f"{part[: user.end()]}{HIDDEN}{part[end:]}" if user and end >= user.end() else part)
    return "".join(parts)


def _mask_whole(url: str) -> str:
    """A text that consists of URLs only, with their passwords masked, whatever characters these contain."""
    return ";".join(_mask_one(one) for one in _NEXT_URL.split(url))


def _mask_one(url: str) -> str:
    found = _WHOLE.match(url)
    if found is None:
        return url
    userinfo, at, rest = found["rest"].rpartition("@")
    user, colon, _ = userinfo.partition(":")
    if at and colon:
        url = f"{found['head']}{user}:{HIDDEN}@{rest}"
    return _WHOLE_QUERY.sub(lambda m: f"{m['head']}{HIDDEN}", url)


class CaughtAs(Exception):
    """Base of exceptions that are caught by the `except` clause of another package too.

    Only code that has imported the other class can name it in a clause, so its module is not imported for
    this: an instance has the other class as a base if that module is imported when it is made.
    """

    #: `module:class` of the other package
    _other = ""
    _combined: type[CaughtAs] | None = None

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        module, _, name = cls._other.partition(":")
        if "_other" in vars(cls) and module in sys.modules:
            if cls._combined is None:
                bases = (cls, getattr(sys.modules[module], name))
                own = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
                cls._combined = type(cls.__name__, bases, {**own, "_combined_of": cls})
            return cast(Self, super().__new__(cls._combined, *args))
        return super().__new__(cls, *args)

    def __reduce__(self) -> Any:
        kind = type(self)
        if "_combined_of" in vars(kind):
            kind = kind.__bases__[0]
        return kind, self.args, self.__dict__ or None


class QcoreError(Exception):
    """Base of all errors that qcore raises intentionally."""


class ConfigError(QcoreError):
    """A setting, a URL or an app is not usable."""


ImproperlyConfigured = ConfigError


class UnknownName(ConfigError):
    """There is no `kind` (such as a setting or command) with this name."""

    def __init__(self, kind: str, name: str, known: Sequence[str] = ()) -> None:
        super().__init__(kind, name, tuple(known))
        self.kind, self.name, self.known = kind, name, tuple(known)

    def __str__(self) -> str:
        hint = did_you_mean(self.name, self.known)
        if not hint and self.known and len(self.known) <= 12:
            hint = f"; known: {', '.join(self.known)}"
        return f"no {self.kind} named '{self.name}'{hint}"


class BadSchedule(ConfigError, ValueError):
    """A schedule, or a text that should be one, is not valid; `position` is the offset of the fault in it."""

    def __init__(self, why: str = "", position: int = 0) -> None:
        super().__init__(why, position)
        self.why, self.position = why, position

    def __str__(self) -> str:
        return self.why


class AppNotFound(ConfigError):
    """The app that -A names cannot be loaded."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(name, why)
        self.name, self.why = name, why

    def __str__(self) -> str:
        return f"cannot load the app '{self.name}': {self.why}"


class BrokerError(QcoreError):
    """Base of the broker's errors."""


class BrokerDown(CaughtAs, BrokerError):
    """The broker at `url` is unreachable, or the connection to it broke."""

    _other = "kombu.exceptions:OperationalError"

    def __init__(self, url: str, reason: object = "") -> None:
        super().__init__(url, str(reason))
        self.url, self.reason = mask_url(url), mask_url(str(reason))

    def __str__(self) -> str:
        why = f": {self.reason}" if self.reason else ""
        return f"cannot reach the broker at {self.url}{why}"


class BrokerBusy(BrokerError):
    """Another process locks the broker for longer than the time-out."""


class BrokerFull(BrokerError):
    """The broker has no space for the message."""


class NotReplicated(BrokerError):
    """The broker has the message, but too few replicas confirmed it in time."""

    def __init__(self, have: int, wanted: int, wait_s: float) -> None:
        super().__init__(have, wanted, wait_s)
        self.have, self.wanted, self.wait_s = have, wanted, wait_s

    def __str__(self) -> str:
        return (
            f"published, but {self.have} of the {self.wanted} replicas asked for (publish_wait_replicas) "
            f"have it after {self.wait_s:g} s; publishing it again would run it twice"
        )


class Unroutable(BrokerError):
    """A message was published to a queue or exchange that does not exist or does not accept it."""


class QueueNotFound(QcoreError, KeyError):
    """A call names a queue that is not in task_queues, and task_create_missing_queues is false."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""  # KeyError's is a repr


class Unsupported(BrokerError):
    """The driver does not support an operation; `what` describes it."""

    def __init__(self, driver: str, what: str) -> None:
        super().__init__(driver, what)
        self.driver, self.what = driver, what

    def __str__(self) -> str:
        return f"the {self.driver} broker cannot {self.what}"


class PoolBroken(QcoreError):
    """The pool of a worker cannot continue."""


class ResultError(QcoreError):
    """Base of the result store's errors."""


class IncompleteStream(ResultError):
    """iterdeps() or collect() came to a result that is not ready."""


class ResultsNotKept(ResultError):
    """No result store is configured and the broker has none of its own."""

    def __init__(self, url: str = "") -> None:
        super().__init__(url)
        self.url = mask_url(url)

    def __str__(self) -> str:
        where = f" for the broker {self.url}" if self.url else ""
        return (
            f"results are not stored{where}: set result_backend (or --result-backend, "
            "QCTL_RESULT_BACKEND) to store them, for example redis://localhost/0"
        )


class Malformed(QcoreError):
    """Bytes that are not a valid message.

    reason: a stable code such as 'not_json' or 'no_id'; detail: text for the operator; task_id: the id of
    the task if it is readable, so that a failure can be stored for its caller.
    """

    def __init__(self, reason: str, detail: str = "", task_id: str | None = None) -> None:
        super().__init__(reason, detail, task_id)
        self.reason, self.detail, self.task_id = reason, detail, task_id

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


class EncodeError(CaughtAs, TypeError, QcoreError):
    """Arguments or a result that the serializer cannot represent."""

    _other = "kombu.exceptions:EncodeError"


class SecurityError(QcoreError):
    """A signature, certificate or key is not valid."""


class MessageTooLarge(QcoreError, ValueError):
    """A message or result is larger than what any process reads (16 MiB); it was not sent or stored."""

    def __init__(self, what: str, size: int = 0, most: int = 0) -> None:
        super().__init__(what, size, most)
        self.what, self.size, self.most = what, size, most

    def __str__(self) -> str:
        return (
            f"{self.what} has {self.size} bytes, and at most {self.most} are read; "
            "store large values elsewhere and send where they are"
        )


# --- tasks: Celery's names ---------------------------------------------------------------------


class TaskError(QcoreError):
    """Base of the errors about tasks and their results."""


class NotRegistered(KeyError, TaskError):
    """No task of that name is registered in the app."""

    def __init__(self, name: str = "", known: Sequence[str] = ()) -> None:
        super().__init__(name)
        self.name, self.known = name, tuple(known)

    def __str__(self) -> str:
        return (
            f"no task named '{self.name}' is registered on this worker{did_you_mean(self.name, self.known)}"
        )


class AlreadyRegistered(TaskError):
    """Two different tasks have the same name."""


class TimeoutError(TaskError):  # Celery's name, although a builtin has it too
    """The result is not ready within the time-out."""


class MaxRetriesExceededError(TaskError):
    """The task has used all of its max_retries."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args)
        self.task_args, self.task_kwargs = kwargs.pop("task_args", ()), kwargs.pop("task_kwargs", {})


class TaskRevokedError(TaskError):
    """The task was revoked, so it has no result."""


class InvalidTaskError(TaskError):
    """The task's data is not valid."""


class ChordError(TaskError):
    """A member of a chord failed."""


class RemoteError(TaskError):
    """A task failed with an exception whose class this process has not imported.

    exc_type, exc_module and exc_message are those of the stored result; no module is imported for them.
    """

    def __init__(self, exc_type: str, exc_message: Any = (), exc_module: str = "") -> None:
        super().__init__(exc_type, exc_message, exc_module)
        self.exc_type, self.exc_message, self.exc_module = exc_type, exc_message, exc_module

    def __str__(self) -> str:
        parts = self.exc_message if isinstance(self.exc_message, list | tuple) else [self.exc_message]
        text = ", ".join(str(p) for p in parts)
        return f"{self.exc_type}: {text}" if text else self.exc_type


class TaskPredicate(QcoreError):
    """Base of the exceptions with which a task decides how its run ends."""


class Ignore(TaskPredicate):
    """End the run and acknowledge the message without storing a result."""


class Reject(TaskPredicate):
    """Reject the message; with `requeue` it returns to its queue for another worker."""

    def __init__(self, reason: object = None, requeue: bool = False) -> None:
        super().__init__(reason, requeue)
        self.reason, self.requeue = reason, requeue

    def __str__(self) -> str:
        return f"reject requeue={self.requeue}: {self.reason}"


class Retry(TaskPredicate):
    """Retry the task; `sig` describes the next attempt."""

    def __init__(
        self,
        message: str | None = None,
        exc: BaseException | str | None = None,
        when: object = None,
        is_eager: bool = False,
        sig: Any = None,
    ) -> None:
        super().__init__(message, exc, when)
        self.message, self.exc, self.when, self.is_eager, self.sig = message, exc, when, is_eager, sig

    def humanize(self) -> str:
        if isinstance(self.when, int | float):
            return f"in {self.when}s"
        return f"at {self.when}"

    def __str__(self) -> str:
        if self.message:
            return self.message
        cause = self.exc if isinstance(self.exc, str) else repr(self.exc)
        return f"Retry {self.humanize()}" + (f": {cause}" if self.exc is not None else "")


class SoftTimeLimitExceeded(CaughtAs):
    """Raised inside a task when its soft time limit has passed."""

    _other = "billiard.exceptions:SoftTimeLimitExceeded"


class TimeLimitExceeded(CaughtAs):
    """The hard time limit of a task has passed and its process was killed."""

    _other = "billiard.exceptions:TimeLimitExceeded"


class WorkerLostError(CaughtAs):
    """The process that ran the task ended without an outcome."""

    _other = "billiard.exceptions:WorkerLostError"


class Terminated(CaughtAs):
    """An operator stopped the run."""

    _other = "billiard.exceptions:Terminated"


class ColdShutdown(BaseException):
    """Raised in the running task of a solo worker by the signal for a cold shutdown."""
