"""Exit codes: one table for all commands, their help pages and the manual.

In:  an exception.  Out: the exit code, and the text for stderr.
Before this: a command raises.  After this: main.py prints and exits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

OK = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 3
PARTIAL = 4
NO_ANSWER = 5
NOT_MET = 6
REFUSED = 7
UNAVAILABLE = 69
BUG = 70
NOT_PERMITTED = 77
BAD_CONFIG = 78
TIMED_OUT = 124
INTERRUPTED = 130
CLOSED_PIPE = 141
TERMINATED = 143

TABLE: dict[int, str] = {
    OK: "done, and everything asked for was found",
    FAILED: "it ran and failed: the task failed, a worker refused the command",
    USAGE: "wrong usage, or an app (-A) that cannot be loaded",
    NOT_FOUND: "no such task, queue, worker, file or name",
    PARTIAL: "some workers are silent or refused; they are named on stderr",
    NO_ANSWER: "no worker answered; the broker can be reached",
    NOT_MET: "condition not met: the task has not finished",
    REFUSED: "refused for safety: read-only, no --reason, or no --yes and no terminal to ask on",
    UNAVAILABLE: "the broker or the result store cannot be reached",
    BUG: "a bug in qctl; a report was written",
    NOT_PERMITTED: "not permitted to read or write a file",
    BAD_CONFIG: "a setting or URL that cannot be used; results are not stored",
    TIMED_OUT: "the timeout (-t) passed before the result arrived",
    INTERRUPTED: "interrupted with Ctrl-C",
    CLOSED_PIPE: "the reader of the output closed the pipe",
    TERMINATED: "ended by SIGTERM",
}

#: codes after which a repetition of the same command may succeed
RETRYABLE = frozenset((PARTIAL, NO_ANSWER, NOT_MET, UNAVAILABLE, TIMED_OUT))

#: codes that any command may exit with; its help page lists them after its own
COMMON = (USAGE, UNAVAILABLE, BAD_CONFIG, INTERRUPTED)


class CommandError(Exception):
    """Ends the command with `code`. message: one sentence for stderr; hint: what to do about it."""

    def __init__(self, code: int, message: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint


def explain(exc: BaseException) -> CommandError | None:
    """The CommandError for an error of qcore or the system; None for a bug."""
    if isinstance(exc, CommandError):
        return exc
    if isinstance(exc, PermissionError):
        return CommandError(NOT_PERMITTED, f"{exc.strerror}: {exc.filename}")
    if isinstance(exc, FileNotFoundError | IsADirectoryError | NotADirectoryError) and exc.filename:
        return CommandError(NOT_FOUND, f"{exc.strerror}: {exc.filename}")
    from qcore import errors  # not imported without an error

    for kind, code, hint in (
        (errors.BrokerDown, UNAVAILABLE, "is it running? give another address with -b URL"),
        (errors.BrokerBusy, UNAVAILABLE, ""),
        (
            errors.AppNotFound,
            USAGE,
            "-A takes module, module:name or module.name; --workdir sets where to look",
        ),
        (errors.ResultsNotKept, BAD_CONFIG, ""),
        (errors.Unsupported, FAILED, ""),
        (errors.NotRegistered, NOT_FOUND, ""),
        (errors.QueueNotFound, NOT_FOUND, ""),
        (errors.TimeoutError, TIMED_OUT, ""),
        (errors.ConfigError, BAD_CONFIG, ""),
        (errors.QcoreError, FAILED, ""),
    ):
        if isinstance(exc, kind):
            return CommandError(code, str(exc), hint)
    return None


@contextmanager
def sigterm_like_ctrl_c() -> Iterator[None]:
    """Handle SIGTERM like Ctrl-C, so that buffered events are written when a service manager stops qctl."""
    import signal

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
