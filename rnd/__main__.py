"""`python -m rnd` is the command `rnd`."""

import sys

from rnd.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
