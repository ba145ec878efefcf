"""The contestants' Python environments: one directory each, made with pip on first use, pinned.

In:  environments/NAME.txt.  Out: .bench/venvs/NAME, or a sentence why there is none.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
PLACE = HERE.parent / ".bench" / "venvs"
INSTALL_S = 300
#: packages that are compiled are installed as wheels only: a compiler is no part of the comparison
OPTIONS = ("--quiet", "--disable-pip-version-check", "--only-binary", ":all:")


class NotInstalled(Exception):
    """A contestant that cannot take part; the message is a sentence for the report."""


def interpreter(name: str) -> str:
    """The path of the environment's Python, made when it is not there. Raises NotInstalled."""
    if not name:
        return sys.executable
    wanted = HERE / "environments" / f"{name}.txt"
    python = PLACE / name / "bin" / "python"
    stamp = PLACE / name / ".installed"
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text() == digest:
        return str(python)
    print(f"installing {name} into {PLACE / name}", file=sys.stderr, flush=True)
    shutil.rmtree(PLACE / name, ignore_errors=True)
    venv.create(PLACE / name, with_pip=True)
    command = [str(python), "-m", "pip", "install", *OPTIONS, "-r", str(wanted)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"{name} is left out: installing it took more than {INSTALL_S} s") from None
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [""]
        raise NotInstalled(f"{name} is left out, it could not be installed: {last[-1][:200]}")
    stamp.write_text(digest)
    return str(python)
