"""`python -m qctl` runs `qctl`."""

import atexit
import gc
import os
import sys
import threading
from typing import NoReturn

from qctl import COLLECT_AT_START


def program() -> NoReturn:
    """Run the command line, and end the process as Python does, except that no object is freed first."""
    code = main()
    if sys.getprofile() is None and sys.gettrace() is None:
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads that are no daemons
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):
                sys.exit(code)  # closed, or the reader has gone: Python's own end knows what to do
        os._exit(code & 0xFF)
    sys.exit(code)


def main() -> int:
    """Run the command line; return the exit code. A local probe ends before the rest is imported."""
    gc.set_threshold(*COLLECT_AT_START)
    if "QCTL_PARENT_PID" in os.environ:
        from qctl.cli.orphans import end_with_parent

        end_with_parent(sys.argv[1:])
    code = None
    if sys.argv[1:2] == ["health"]:
        from qctl.commands.health.local_probe import quick

        code = quick(sys.argv[1:])
    if code is None:
        try:
            from qctl.main import main as door

            code = door()
        except ImportError as exc:  # of a name that is in each qcore of ours
            if not (exc.name or "").startswith("qcore"):
                raise
            return _refuse(exc)
    return code


def _refuse(exc: ImportError) -> int:
    """Say that `qcore` is not the one that belongs to qctl: other packages have this name too."""
    import importlib.util

    found = importlib.util.find_spec("qcore")
    place = found.origin or ", ".join(found.submodule_search_locations or ()) if found else "nowhere"
    sys.stderr.write(
        f"qctl: the package 'qcore' at {place} is not the one of qctl ({exc}); "
        "remove the other package of this name, then `pip install --force-reinstall qctl`\n"
    )
    return 78


if __name__ == "__main__":
    program()
