"""`python -m qctl` runs `qctl`."""

import os
import sys


def main() -> int:
    """Run the command line; return the exit code. A local probe ends before the rest is imported."""
    if "QCTL_PARENT_PID" in os.environ:
        from qctl.cli.orphans import end_with_parent

        end_with_parent(sys.argv[1:])
    code = None
    if sys.argv[1:2] == ["health"]:
        from qctl.commands.health.local_probe import quick

        code = quick(sys.argv[1:])
    if code is None:
        from qctl.main import main as door

        code = door()
    return code


if __name__ == "__main__":
    sys.exit(main())
