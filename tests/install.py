"""Install the project and what its tests need into an environment; `make test` runs this.

In:  the environment's Python, and what to install.  uv does it, in a tenth of pip's time, with the indexes,
links and constraints that pip is configured to use; pip does it where uv cannot.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys

#: pip's settings, and uv's options for them
OPTIONS = {
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "constraint": "--constraints",
    "trusted-host": "--allow-insecure-host",
}
#: pip's settings, and the variables in which uv expects them
VARIABLES = {"cert": "SSL_CERT_FILE", "proxy": "ALL_PROXY"}


def main(python: str, *wanted: str) -> int:
    """Returns pip's exit code, or 0."""
    pip = (python, "-m", "pip", "--quiet", "--disable-pip-version-check")
    found = subprocess.run((*pip, "install", "--no-compile", "uv"), check=False)
    if found.returncode == 0:
        settings = subprocess.run((*pip, "config", "list"), check=False, capture_output=True, text=True)
        options, environ = translated(settings.stdout)
        uv = (python, "-m", "uv", "pip", "install", "--quiet", "--python", python, *options)
        found = subprocess.run(
            (*uv, "--config-setting", "editable_mode=compat", *wanted), check=False, env=environ
        )
    if found.returncode == 0:
        return 0
    print("uv did not install it; pip does, which takes a minute longer", file=sys.stderr)
    settled = ("install", "--no-compile", "--config-settings", "editable_mode=compat")
    return subprocess.run((*pip, *settled, *wanted), check=False).returncode


def translated(settings: str) -> tuple[list[str], dict[str, str]]:
    """uv's options and environment for what `pip config list` prints, such as `global.no-index='1'`."""
    # Of all versions in all indexes the best one, as pip does.
    options, environ = ["--index-strategy", "unsafe-best-match"], dict(os.environ)
    for line in settings.splitlines():
        name, _, value = line.partition("=")
        name = name.rpartition(".")[2]
        if name in OPTIONS:
            for word in str(ast.literal_eval(value)).split():
                options += [OPTIONS[name], word]
        elif name in VARIABLES:
            environ.setdefault(VARIABLES[name], str(ast.literal_eval(value)))
    return options, environ


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
