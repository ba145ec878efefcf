"""Celery's logging for projects that set it up themselves: `app.log`, TaskFormatter, ColorFormatter.

In:  an app's settings.  Out: handlers and formats of the logging module, as a worker sets them up.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from qcore.base.escapes import in_lines
from qcore.celery.own import get_task_logger
from qcore.celery.texts import try_import
from qcore.tasks.request import current_request
from qcore.worker.process import log_setup

if TYPE_CHECKING:
    from qcore.app.app import App

LOG_LEVELS: dict[Any, Any] = {
    **{name: getattr(logging, name) for name in log_setup.LEVELS},
    **{getattr(logging, name): name for name in log_setup.LEVELS if name != "FATAL"},
}


def mlevel(level: Any) -> int:
    """The number of a log level; 0 stays 0."""
    return log_setup.level(level) if level else 0


_in_sighandler = False


def set_in_sighandler(value: bool) -> None:
    """Have every LoggingProxy write to the standard error output, as handlers of signals must, or to its
    logger again."""
    global _in_sighandler
    _in_sighandler = value


@contextmanager
def in_sighandler() -> Iterator[None]:
    """A block in which set_in_sighandler(True) holds; False afterwards."""
    set_in_sighandler(True)
    try:
        yield
    finally:
        set_in_sighandler(False)


def get_multiprocessing_logger() -> logging.Logger | None:
    """The logger of billiard; None where billiard is not installed."""
    util = try_import("billiard.util")
    found: logging.Logger | None = util.get_logger() if util is not None else None
    return found


def reset_multiprocessing_logger() -> None:
    """Have billiard make its logger anew."""
    util = try_import("billiard.util")
    if util is not None:
        util._logger = None


class ColorFormatter(logging.Formatter):
    """A format with warnings in yellow and errors in red, and one line for each record."""

    def __init__(self, fmt: str | None = None, use_color: bool = True, datefmt: str | None = None) -> None:
        super().__init__(fmt, datefmt)
        self.use_color = use_color

    def format(self, record: logging.LogRecord) -> str:
        line = in_lines(super().format(record))
        if not self.use_color or record.levelno < logging.WARNING:
            return line
        return f"\x1b[{31 if record.levelno >= logging.ERROR else 33}m{line}\x1b[0m"


class TaskFormatter(ColorFormatter):
    """A format that may use %(task_id)s and %(task_name)s: those of the running task, else `???`."""

    def format(self, record: logging.LogRecord) -> str:
        request = current_request()
        record.__dict__["task_id"] = (request.id if request else None) or "???"
        record.__dict__["task_name"] = (request.task if request else None) or "???"
        return super().format(record)


class LoggingProxy:
    """A stream that writes each line to a logger."""

    mode, name, closed = "w", None, False

    def __init__(self, logger: logging.Logger, loglevel: Any = None) -> None:
        self.logger, self.loglevel = logger, mlevel(loglevel or logger.level or logging.WARNING)

    def write(self, data: Any) -> int:
        if _in_sighandler:  # the signal may have interrupted what holds a lock of logging
            print(data, file=sys.__stderr__)
            return len(data)
        for line in str(data).rstrip().splitlines():
            self.logger.log(self.loglevel, "%s", line)
        return len(data)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None: ...

    def close(self) -> None:
        self.closed = True

    def isatty(self) -> bool:
        return False


class Logging:
    """`app.log`: the logging of an app outside of a worker."""

    already_setup = False

    def __init__(self, app: App) -> None:
        self.app = app
        conf = app.conf
        self.loglevel = mlevel(logging.WARNING)
        self.format, self.task_format = conf.worker_log_format, conf.worker_task_log_format
        self.colorize = conf.worker_log_color

    def setup(
        self,
        loglevel: Any = None,
        logfile: str | None = None,
        redirect_stdouts: bool = False,
        redirect_level: str = "WARNING",
        colorize: bool | None = None,
        hostname: str | None = None,
    ) -> bool:
        """Set up logging once, with the output of print() as records if asked. Returns whether it did."""
        done = self.setup_logging_subsystem(loglevel, logfile, colorize=colorize, hostname=hostname)
        if redirect_stdouts:
            self.redirect_stdouts(redirect_level)
        return done

    def setup_logging_subsystem(
        self,
        loglevel: Any = None,
        logfile: str | None = None,
        format: str | None = None,
        colorize: bool | None = None,
        hostname: str | None = None,
        **kwargs: Any,
    ) -> bool:
        """Set up the root and the task logger once, as a worker does, unless a receiver of setup_logging did.
        Returns whether it did. Raises ConfigError."""
        if self.already_setup:
            return False
        self.already_setup = True
        conf = self.app.conf
        if format:
            conf["worker_log_format"] = format
        if colorize is not None:
            conf["worker_log_color"] = colorize
        log_setup.set_up(conf, self.loglevel if loglevel is None else loglevel, logfile)
        return True

    def setup_task_loggers(
        self, loglevel: Any = None, logfile: str | None = None, **kwargs: Any
    ) -> logging.Logger:
        """The logger of tasks, with the level."""
        found = self.get_default_logger(log_setup.TASK_LOGGER)
        if loglevel is not None:
            found.setLevel(mlevel(loglevel))
        return found

    def get_default_logger(self, name: str = "celery", **kwargs: Any) -> logging.Logger:
        return logging.getLogger(name)

    def get_task_logger(self, name: str) -> logging.Logger:
        return get_task_logger(name)

    def redirect_stdouts(self, loglevel: Any = None, name: str = "celery.redirected") -> None:
        self.redirect_stdouts_to_logger(logging.getLogger(name), loglevel)

    def redirect_stdouts_to_logger(
        self, logger: logging.Logger, loglevel: Any = None, stdout: bool = True, stderr: bool = True
    ) -> LoggingProxy:
        """Have what is printed written to a logger. Returns the stream that does it."""
        proxy = LoggingProxy(logger, loglevel)
        if stdout:
            sys.stdout = proxy
        if stderr:
            sys.stderr = proxy
        return proxy

    def setup_handlers(
        self,
        logger: logging.Logger,
        logfile: str | None,
        format: str,
        colorize: bool | None,
        formatter: Any = ColorFormatter,
        **kwargs: Any,
    ) -> logging.Logger:
        """Give a logger one handler, to a file or stderr, unless it has handlers."""
        if not logger.handlers:
            handler = logging.FileHandler(logfile) if logfile else logging.StreamHandler(sys.__stderr__)
            handler.setFormatter(formatter(format, use_color=self.supports_color(colorize, logfile)))
            logger.addHandler(handler)
        return logger

    def supports_color(self, colorize: bool | None = None, logfile: str | None = None) -> bool:
        if colorize is None:
            return not logfile and sys.__stderr__ is not None and sys.__stderr__.isatty()
        return colorize
