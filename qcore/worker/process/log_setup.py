"""Logging of a worker: Celery's formats, to stderr or a file. The output of tasks is logged too."""

from __future__ import annotations

import copy
import importlib
import logging
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from qcore.base.escapes import in_json, in_lines, shown
from qcore.base.times import iso
from qcore.errors import ConfigError
from qcore.settings.config import Config
from qcore.settings.table import TABLE
from qcore.signals import after_setup_logger, after_setup_task_logger, setup_logging
from qcore.tasks.request import current_request
from qcore.wire.content import from_json, to_json

TASK_LOGGER = "qcore.task"
#: formats by name; others are format strings of the logging module, or classes
TEXT, JSON = "text", "json"
CLASS = re.compile(r"[\w.]+:\w+")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "FATAL")


def level(name: str | int) -> int:
    """The number of a log level; raises ConfigError, with the known names, for an unknown one."""
    if isinstance(name, int):
        return name
    if name.upper() not in LEVELS:
        raise ConfigError(f"no log level named '{name}'; known: {', '.join(LEVELS)}")
    return int(getattr(logging, name.upper()))


class Lines(str):
    """A log argument that keeps its line breaks, such as a traceback."""

    __slots__ = ()


def _one_line(value: Any) -> Any:
    if isinstance(value, BaseException):
        value = str(value)
    return shown(value) if isinstance(value, str) and not isinstance(value, Lines) else value


def _safe(record: logging.LogRecord) -> logging.LogRecord:
    """Escape line breaks in the arguments of qcore's own records; records of tasks stay unchanged."""
    ours = record.name.startswith("qcore.") and not record.name.startswith(TASK_LOGGER)
    if not ours or not isinstance(record.args, tuple) or not record.args:
        return record
    fixed = tuple(map(_one_line, record.args))
    if fixed == record.args:
        return record
    found = copy.copy(record)
    found.args = fixed
    return found


class _Format(logging.Formatter):
    """Formats a record in Celery's format; child processes are named by their pid."""

    def __init__(self, fmt: str, main_pid: int, colour: bool, datefmt: str | None = None) -> None:
        super().__init__(fmt, datefmt)
        self._main_pid, self._colour = main_pid, colour

    def format(self, record: logging.LogRecord) -> str:
        if record.process == self._main_pid:
            record.processName = "MainProcess"
        else:
            record.processName = f"ForkPoolWorker-{record.process}"
        request = current_request()
        record.task_name = (request.task if request else None) or "???"
        record.task_id = (request.id if request else None) or "???"
        line = in_lines(super().format(_safe(record)))
        if self._colour and record.levelno >= logging.ERROR:
            return f"\x1b[31m{line}\x1b[0m"
        if self._colour and record.levelno >= logging.WARNING:
            return f"\x1b[33m{line}\x1b[0m"
        return line


#: what every record has; all others are fields that `extra` gave it
_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


class _Json(logging.Formatter):
    """Formats a record as one JSON object on one line, with the fields of its `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        request = current_request()
        entry = {name: _plain(value) for name, value in vars(record).items() if name not in _STANDARD}
        entry |= {
            "time": iso(record.created),
            "level": record.levelname,
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        if request is not None and request.id:
            entry |= {"task_name": request.task, "task_id": request.id}
        entry |= _span_ids()
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return in_json(to_json(entry).decode())


def _plain(value: Any) -> Any:
    """A field as JSON has it; the repr of what has no such form."""
    try:
        return from_json(to_json(value))
    except (TypeError, ValueError, OverflowError):
        return repr(value)


def _span_ids() -> dict[str, str]:
    """The ids of OpenTelemetry's current span, if this process makes spans."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return {}
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


def _formatter(fmt: str, colour: bool, datefmt: str | None) -> logging.Formatter:
    """The formatter for a format string of the logging module, the word `json`, or `module:Class`. Raises
    ConfigError for a class that cannot be used."""
    if fmt == JSON:
        return _Json()
    if "%" in fmt or not CLASS.fullmatch(fmt):
        return _Format(fmt, os.getpid(), colour, datefmt)
    module, _, name = fmt.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)()
    except (ImportError, AttributeError, TypeError) as exc:
        raise ConfigError(f"cannot make a log formatter of '{fmt}': {exc}") from exc
    if not isinstance(found, logging.Formatter):
        raise ConfigError(f"'{fmt}' is no class of log formatters: derive it from logging.Formatter")
    return found


def _format_of(setting: str, given: str, chosen: str | None) -> str:
    """The format to use: that of --log-format; `text` is the setting's format if that is one of text."""
    if chosen is None:
        return given
    if chosen != TEXT:
        return chosen
    return given if "%" in given else str(TABLE[setting].default)


def check_format(chosen: str | None) -> None:
    """Raises ConfigError for a --log-format that is neither text, json nor module:Class."""
    if chosen not in (None, TEXT, JSON) and not CLASS.fullmatch(chosen or ""):
        raise ConfigError(f"the log format is {TEXT}, {JSON} or module:Class, not '{chosen}'")


def set_up(
    conf: Config,
    loglevel: str | int = "WARNING",
    logfile: str | None = None,
    chosen: str | None = None,
) -> None:
    """Configure logging from the settings, to `logfile`, or to stderr if it is None; not at all when the
    signal setup_logging has receivers. chosen: as --log-format. Raises ConfigError."""
    formats = [
        _format_of(name, conf[name], chosen) for name in ("worker_log_format", "worker_task_log_format")
    ]
    about = {"loglevel": level(loglevel), "logfile": logfile, "format": formats[0]}
    if (
        setup_logging.send(None, **about, colorize=conf.worker_log_color)
        or not conf.worker_hijack_root_logger
    ):
        return
    handler: logging.StreamHandler[Any]
    if logfile:
        try:
            handler = logging.FileHandler(logfile)
        except OSError as exc:
            raise ConfigError(f"cannot write the log file '{logfile}': {exc.strerror}") from exc
    else:
        handler = logging.StreamHandler(sys.stderr)
    colour = conf.worker_log_color
    if colour is None:
        colour = not logfile and sys.stderr.isatty() and "NO_COLOR" not in os.environ
    try:
        handler.setFormatter(_formatter(formats[0], bool(colour), conf.worker_log_datefmt))
        for_tasks = _formatter(formats[1], bool(colour), conf.worker_task_log_datefmt)
        twin = _like(handler, for_tasks)
    except ValueError as exc:
        raise ConfigError(f"worker_log_format or worker_task_log_format is no log format: {exc}") from exc
    # A full disk must not stop tasks, and must not fill stderr with errors about it.
    for one in (handler, twin):
        one.handleError = lambda record: None  # type: ignore[method-assign]
    task_logger = logging.getLogger(TASK_LOGGER)
    task_logger.handlers[:] = [twin]
    task_logger.propagate = False
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level(loglevel))
    after_setup_logger.send(None, logger=root, **about, colorize=colour)
    about["format"] = formats[1]
    after_setup_task_logger.send(None, logger=task_logger, **about, colorize=colour)


def _like(handler: logging.StreamHandler[Any], format_: logging.Formatter) -> logging.Handler:
    """Another handler that writes to the same stream or file."""
    twin: logging.Handler = logging.StreamHandler(handler.stream)
    twin.setFormatter(format_)
    return twin


def get_task_logger(name: str) -> logging.Logger:
    """A logger for use in tasks, as in Celery: its records carry the task's name and id."""
    return logging.getLogger(f"{TASK_LOGGER}.{name}")


class _ToLog:
    """A text stream that logs each line written to it. Stands in for sys.stdout and sys.stderr."""

    encoding = "utf-8"
    errors: str | None = "backslashreplace"
    name = "<log>"
    mode = "w"
    closed = False  # close() of one task must not stop the output of the next

    def __init__(self, logger: logging.Logger, at: int, under: TextIO) -> None:
        self._logger, self._level, self._under = logger, at, under
        self._rest = ""
        self._thread = threading.local()

    def write(self, text: str) -> int:
        if getattr(self._thread, "logs", False):
            return len(text)  # the log handler itself writes: no recursion
        self._rest += text
        *lines, self._rest = self._rest.split("\n")
        self._thread.logs = True
        try:
            for line in lines:
                if line.strip():
                    self._logger.log(self._level, "%s", line)
        finally:
            self._thread.logs = False
        return len(text)

    def flush(self) -> None:
        if self._rest:
            self.write("\n")

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    @property
    def buffer(self) -> _Bytes:
        return _Bytes(self)

    def close(self) -> None:
        self.flush()

    def __enter__(self) -> _ToLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._under.fileno()

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    seekable = readable


class _Bytes:
    """The byte stream below it, as `sys.stdout.buffer`; decodes UTF-8."""

    closed = False

    def __init__(self, text: _ToLog) -> None:
        self._text = text

    def write(self, data: bytes) -> int:
        self._text.write(bytes(data).decode("utf-8", "backslashreplace"))
        return len(data)

    def flush(self) -> None:
        self._text.flush()

    def close(self) -> None:
        self._text.flush()


@contextmanager
def output_as_before() -> Iterator[None]:
    """Undo redirect_output() at its end."""
    before = sys.stdout, sys.stderr
    try:
        yield
    finally:
        if isinstance(sys.stdout, _ToLog):
            sys.stdout, sys.stderr = before


def redirect_output(conf: Config, is_wanted: bool) -> None:
    """Log the output of this process, if that is wanted and the setting worker_redirect_stdouts is on; not
    where the signal setup_logging has receivers, nor where nothing would write it."""
    if not is_wanted or isinstance(sys.stdout, _ToLog):
        return
    has_handlers = conf.worker_hijack_root_logger or logging.getLogger().handlers
    if not conf.worker_redirect_stdouts or setup_logging.receivers or not has_handlers:
        return
    at = level(conf.worker_redirect_stdouts_level)
    logger = logging.getLogger("qcore.redirected")
    out: Any = _ToLog(logger, at, sys.__stdout__ or sys.stdout)
    err: Any = _ToLog(logger, at, sys.__stderr__ or sys.stderr)
    sys.stdout, sys.stderr = out, err
