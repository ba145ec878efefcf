"""Every error that qcore raises, in one tree.

QcoreError
├── ConfigError                 a setting, URL or app that cannot be used
│   ├── UnknownName             no plug-in, setting or command of that name (knows near misses)
│   └── AppNotFound             -A names nothing that can be loaded
├── BrokerError
│   ├── BrokerDown              cannot be reached, or the connection broke
│   ├── BrokerBusy              another process holds it for too long
│   ├── BrokerFull              no space for one more message
│   ├── NotReplicated           published, but on fewer replicas than asked for
│   ├── Unroutable              published to a place that does not exist
│   └── Unsupported             this driver cannot do that
├── PoolBroken                  the pool cannot go on; what ran in it has to be returned
├── ResultError
│   └── ResultsNotKept          no result store is configured
├── Malformed                   bytes that are not a task (reason code, task id when readable)
├── TaskError                   Celery's names: NotRegistered, TimeoutError, TaskRevokedError, …
└── TaskPredicate               raised by tasks to say how a run ends: Retry, Ignore, Reject

SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError and Terminated stand alone, as in Celery,
so that a task's own `except` clauses treat them alike. ColdShutdown is no error: it ends a solo worker's run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any


def near_misses(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """The known names that look most like `name`, best first."""
    import difflib  # needed only once something is wrong

    names = sorted(set(known))
    for cutoff in (0.8, 0.6):  # what is almost right says more than what is merely alike
        found = difflib.get_close_matches(name, names, n=limit, cutoff=cutoff)
        if found:
            return found
    return [n for n in names if name and (n.startswith(name) or name in n)][:limit]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """'; did you mean 'x'?' or nothing."""
    near = near_misses(name, known)
    if not near:
        return ""
    return "; did you mean " + " or ".join(f"'{n}'" for n in near) + "?"


HIDDEN = "********"
# A scheme, also a mistyped one (`redis:/`, `redis//`). Each part has a length, so that a long text takes no
# longer than its length.
_SCHEME = r"(?<![a-z0-9+._-])[a-z][a-z0-9+._-]{0,30}(?::+/+|//+)"
# Passwords hold what nobody escaped: in running text they end at a blank or a quote, or where another URL
# begins. Runs are taken one by one, so that the time grows with the length of the text only.
_RUN = re.compile(r"[^\s\"<>]+")
_URL_STARTS = re.compile(r"(?=(?<![a-z0-9+._-])[a-z][a-z0-9+._-]{0,30}://)", re.I)
_USER = re.compile(rf"{_SCHEME}[^\s:/@]{{0,256}}:", re.I)
_QUERY_SECRET = re.compile(r"(?P<head>[?&][\w.-]{0,40}(?:password|passwd|secret|token)=)[^&;\s\"<>]+", re.I)
_WHOLE = re.compile(rf"(?P<head>{_SCHEME})(?P<rest>.*)", re.I | re.S)
_NEXT_URL = re.compile(rf";(?={_SCHEME})", re.I)
_WHOLE_QUERY = re.compile(r"(?P<head>[?&][\w.-]{0,40}(?:password|passwd|secret|token)=)[^&]+", re.I)
#: how long a password is before it is looked for in texts on its own
LONG_SECRET = 5
MOST_SECRETS = 256
# What client libraries cut URLs at: a password with one of these in it may be quoted in pieces.
_CUT = re.compile(r"[/#?\s@]")
#: texts that must not be shown, longest first when they are used -> what stands for them
_secrets: dict[str, str] = {}


def keep_secret(url: str) -> None:
    """The passwords in `url` are hidden from now on, wherever mask_url() meets them, in whatever form a
    client library quotes them. url: one or several with `;` between them."""
    if not isinstance(url, str) or url in _secrets or ("@" not in url and "=" not in url):
        return
    words = []
    for one in _NEXT_URL.split(url):
        found = _WHOLE.match(one)
        userinfo, at, _ = (found["rest"] if found else "").rpartition("@")
        words += [userinfo.partition(":")[2]] if at else []
        words += [m.group().partition("=")[2] for m in _WHOLE_QUERY.finditer(one)]
    # Others are seen by the patterns wherever their URL stands, and may be common words besides.
    odd = [word for word in words if _CUT.search(word)]
    if not odd:
        return
    while len(_secrets) > MOST_SECRETS:
        _secrets.pop(next(iter(_secrets)), None)  # the oldest
    _secrets[url] = _mask_whole(url)
    for word in odd:
        _secrets.update((p, HIDDEN) for p in (word, *_CUT.split(word)) if len(p) >= LONG_SECRET)


def mask_url(text: str) -> str:
    """`text` with the password of every URL in it replaced by asterisks."""
    if _secrets:
        for secret in sorted(_secrets, key=len, reverse=True):
            if secret in text:
                text = text.replace(secret, _secrets.get(secret, HIDDEN))
    if "@" in text:
        text = _RUN.sub(_masked_run, text)
    return _QUERY_SECRET.sub(lambda m: f"{m['head']}{HIDDEN}", text)


def _masked_run(found: re.Match[str]) -> str:
    """A run without blanks, with the passwords of its URLs hidden."""
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
    """A text that is nothing but URLs, whatever their passwords are made of."""
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


class QcoreError(Exception):
    """Base of all errors raised on purpose by qcore."""


class ConfigError(QcoreError):
    """A setting, a URL or an app cannot be used."""


ImproperlyConfigured = ConfigError


class UnknownName(ConfigError):
    """There is no `kind` called `name`."""

    def __init__(self, kind: str, name: str, known: Sequence[str] = ()) -> None:
        super().__init__(kind, name, tuple(known))
        self.kind, self.name, self.known = kind, name, tuple(known)

    def __str__(self) -> str:
        hint = did_you_mean(self.name, self.known)
        if not hint and self.known and len(self.known) <= 12:
            hint = f"; known: {', '.join(self.known)}"
        return f"no {self.kind} named '{self.name}'{hint}"


class AppNotFound(ConfigError):
    """The value of -A leads to no app."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(name, why)
        self.name, self.why = name, why

    def __str__(self) -> str:
        return f"cannot load the app '{self.name}': {self.why}"


class BrokerError(QcoreError):
    """Something about the broker."""


class BrokerDown(BrokerError):
    """The broker at `url` cannot be reached, or the connection to it broke."""

    def __init__(self, url: str, reason: object = "") -> None:
        super().__init__(url, str(reason))
        self.url, self.reason = mask_url(url), mask_url(str(reason))

    def __str__(self) -> str:
        why = f": {self.reason}" if self.reason else ""
        return f"cannot reach the broker at {self.url}{why}"


class BrokerBusy(BrokerError):
    """The broker is locked by another process for longer than we are willing to wait."""


class BrokerFull(BrokerError):
    """The broker has no space for one more message."""


class NotReplicated(BrokerError):
    """The broker has what was published, but too few replicas said so in time."""

    def __init__(self, have: int, wanted: int, wait_s: float) -> None:
        super().__init__(have, wanted, wait_s)
        self.have, self.wanted, self.wait_s = have, wanted, wait_s

    def __str__(self) -> str:
        return (
            f"published, but {self.have} of the {self.wanted} replicas asked for (publish_wait_replicas) "
            f"have it after {self.wait_s:g} s; publishing it again would run it twice"
        )


class Unroutable(BrokerError):
    """A message was published to a queue or exchange that does not take it."""


class Unsupported(BrokerError):
    """The driver cannot do this; `what` says what, in words for the operator."""

    def __init__(self, driver: str, what: str) -> None:
        super().__init__(driver, what)
        self.driver, self.what = driver, what

    def __str__(self) -> str:
        return f"the {self.driver} broker cannot {self.what}"


class PoolBroken(QcoreError):
    """The pool of a worker cannot go on."""


class ResultError(QcoreError):
    """Something about the result store."""


class ResultsNotKept(ResultError):
    """No result store is configured and the broker has none of its own."""

    def __init__(self, url: str = "") -> None:
        super().__init__(url)
        self.url = mask_url(url)

    def __str__(self) -> str:
        where = f" for the broker {self.url}" if self.url else ""
        return (
            f"no results are kept{where}: set result_backend (or --result-backend, "
            "QCTL_RESULT_BACKEND) to keep them, for example redis://localhost/0"
        )


class Malformed(QcoreError):
    """Bytes that are not what they should be.

    reason is a stable code such as 'not_json' or 'no_id'; detail is for people; task_id is the id of
    the task when it could be read, so that a failure can be stored for whoever waits.
    """

    def __init__(self, reason: str, detail: str = "", task_id: str | None = None) -> None:
        super().__init__(reason, detail, task_id)
        self.reason, self.detail, self.task_id = reason, detail, task_id

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


# --- tasks: Celery's names ---------------------------------------------------------------------


class TaskError(QcoreError):
    """A task could not be run or its result could not be had."""


class NotRegistered(KeyError, TaskError):
    """No task of that name is known here."""

    def __init__(self, name: str = "", known: Sequence[str] = ()) -> None:
        super().__init__(name)
        self.name, self.known = name, tuple(known)

    def __str__(self) -> str:
        return (
            f"no task named '{self.name}' is registered on this worker{did_you_mean(self.name, self.known)}"
        )


class AlreadyRegistered(TaskError):
    """Two different tasks have the same name."""


class TimeoutError(TaskError):  # the builtin's name on purpose: it is Celery's
    """The result did not arrive in time."""


class MaxRetriesExceededError(TaskError):
    """The task was retried as often as it may be."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args)
        self.task_args, self.task_kwargs = kwargs.pop("task_args", ()), kwargs.pop("task_kwargs", {})


class TaskRevokedError(TaskError):
    """The task was revoked, so there is no result."""


class InvalidTaskError(TaskError):
    """The task's data is not valid."""


class ChordError(TaskError):
    """A member of a chord failed."""


class RemoteError(TaskError):
    """A task failed elsewhere with an exception whose class is not known here.

    exc_type, exc_module and exc_message are what the worker reported; nothing was imported to look.
    """

    def __init__(self, exc_type: str, exc_message: Any = (), exc_module: str = "") -> None:
        super().__init__(exc_type, exc_message, exc_module)
        self.exc_type, self.exc_message, self.exc_module = exc_type, exc_message, exc_module

    def __str__(self) -> str:
        parts = self.exc_message if isinstance(self.exc_message, list | tuple) else [self.exc_message]
        text = ", ".join(str(p) for p in parts)
        return f"{self.exc_type}: {text}" if text else self.exc_type


class TaskPredicate(QcoreError):
    """Base of the exceptions by which a task says how its run ends."""


class Ignore(TaskPredicate):
    """The task wants no outcome to be recorded."""


class Reject(TaskPredicate):
    """The task does not want the message; with `requeue` another worker gets it."""

    def __init__(self, reason: object = None, requeue: bool = False) -> None:
        super().__init__(reason, requeue)
        self.reason, self.requeue = reason, requeue

    def __str__(self) -> str:
        return f"reject requeue={self.requeue}: {self.reason}"


class Retry(TaskPredicate):
    """The task is to be tried again; carries the signature of the next attempt."""

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


class SoftTimeLimitExceeded(Exception):
    """Raised inside a task when its soft time limit has passed."""


class TimeLimitExceeded(Exception):
    """The hard time limit of a task has passed and its process was killed."""


class WorkerLostError(Exception):
    """The process that ran the task ended without saying how the run went."""


class Terminated(Exception):
    """The run was stopped by an operator."""


class ColdShutdown(BaseException):
    """Raised inside a solo worker's running task by the signal that stops the worker at once."""
