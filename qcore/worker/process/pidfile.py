"""The pid file of a worker: it exists while the worker runs; the file of an ended process is replaced."""

from __future__ import annotations

import os
from pathlib import Path

from qcore.base.private_files import create, read
from qcore.base.process_facts import is_running
from qcore.errors import ConfigError


class PidFile:
    """A context manager; the file exists inside it. `path` None: no file. Raises ConfigError when the file
    cannot be written, or belongs to a running process."""

    def __init__(self, path: str | None) -> None:
        self._path = Path(path) if path else None

    def __enter__(self) -> None:
        if self._path is None:
            return
        for _ in range(2):
            try:
                fd = create(self._path)
            except FileExistsError:
                self._clear_stale()
                continue
            except OSError as exc:
                raise ConfigError(f"cannot write the pid file '{self._path}': {exc.strerror}") from exc
            os.write(fd, f"{os.getpid()}\n".encode())
            os.close(fd)
            return
        raise ConfigError(f"cannot take over the pid file '{self._path}'")

    def _clear_stale(self) -> None:
        assert self._path is not None
        try:
            pid = int(read(self._path)[0].strip() or 0)
        except FileNotFoundError:
            return
        except ValueError:
            pid = 0
        except OSError as exc:
            raise ConfigError(f"cannot read the pid file '{self._path}': {exc.strerror}") from exc
        if is_running(pid):
            raise ConfigError(f"a worker is running with pid {pid} (pid file '{self._path}')")
        self._path.unlink(missing_ok=True)

    def __exit__(self, *exc: object) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)
