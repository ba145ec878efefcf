"""`python -m qcore.celery manage.py runserver`: run a Python program in which `import celery` means qcore.

In:  a script, or `-m MODULE`, and its arguments.  Out: what the program does, and its exit code.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from qcore.celery.install import install

USAGE = "usage: python -m qcore.celery [-m MODULE | SCRIPT] [ARGUMENTS]"


def main() -> None:
    words = sys.argv[1:]
    if not words or words in (["-h"], ["--help"], ["-m"]):
        print(USAGE, file=sys.stderr if words[:1] not in (["-h"], ["--help"]) else sys.stdout)
        raise SystemExit(0 if words[:1] in (["-h"], ["--help"]) else 2)
    install()
    if words[0] == "-m":
        sys.argv = words[1:]
        sys.path.insert(0, "")
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        return
    if not Path(words[0]).is_file():
        print(f"qcore.celery: there is no script '{words[0]}'; {USAGE}", file=sys.stderr)
        raise SystemExit(2)
    sys.argv = words
    sys.path.insert(0, str(Path(words[0]).resolve().parent))
    runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    main()
