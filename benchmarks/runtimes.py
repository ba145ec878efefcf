"""What the workers of a contestant run on: Python, node with npm's packages, or ruby with the system's gems.

In:  a Side.  Out: the program and its environment variables, or a sentence why there is none.
npm's packages go to .bench/npm/NAME, pinned in environments/NAME.txt. Gems are the system's: none is
installed.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from typing import NamedTuple

from benchmarks.lineup import Side
from benchmarks.venvs import HERE, INSTALL_S, PLACE, NotInstalled

NPM_PLACE = PLACE.parent / "npm"
#: no package runs a script of its own when it is installed: a compiler is no part of the comparison
NPM = ("npm", "install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")


class Runtime(NamedTuple):
    """A program and the environment variables that it needs. BENCH_PROGRAM names it to the client."""

    program: str
    environ: dict[str, str]


def runtime(side: Side, python: str) -> Runtime:
    """python: the interpreter of its environment. Raises NotInstalled."""
    if side.runtime == "python":
        return Runtime(python, {})
    program = node(side.name) if side.runtime == "node" else ruby(side.name)
    more = {"NODE_PATH": str(NPM_PLACE / side.name / "node_modules")} if side.runtime == "node" else {}
    return Runtime(program, {"BENCH_PROGRAM": program, **more})


def node(name: str) -> str:
    """The path of node; npm's packages are installed when they are not there. Raises NotInstalled."""
    program = shutil.which("node")
    if program is None or shutil.which("npm") is None:
        raise NotInstalled(f"{name} is left out: node and npm are not installed")
    wanted = HERE / "environments" / f"{name}.txt"
    place = NPM_PLACE / name
    stamp = place / ".installed"
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return program
    print(f"installing {name} into {place}", file=sys.stderr, flush=True)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    command = [*NPM, "--prefix", str(place), *wanted.read_text().split()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"{name} is left out: installing it took more than {INSTALL_S} s") from None
    if done.returncode:
        reason = " ".join(done.stderr.splitlines()[:2])
        raise NotInstalled(f"{name} is left out, it could not be installed: {reason[:200]}")
    stamp.write_text(digest)
    return program


def ruby(name: str) -> str:
    """The path of a ruby that has the gem of that name. Raises NotInstalled."""
    program = shutil.which("ruby")
    if program is None:
        raise NotInstalled(f"{name} is left out: ruby is not installed (Debian: ruby-{name})")
    done = subprocess.run([program, "-e", f"require '{name}'"], capture_output=True, check=False)
    if done.returncode:
        raise NotInstalled(f"{name} is left out: ruby has no gem '{name}' (Debian: ruby-{name})")
    return program
