"""`python -m qctl` is `qctl`."""

import sys

from qctl.main import main

if __name__ == "__main__":
    sys.exit(main())
