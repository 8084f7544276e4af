"""``python -m tarfailover``: the command line, where no script is installed."""

import sys

from tarfailover.cli import main

if __name__ == "__main__":
    sys.exit(main())
