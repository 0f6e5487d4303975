"""Entry of rnd-exec: `python -P .../rnd/services/exec_main.py DATA_DIR VERSION [--foreground]`.

Its folder is not on the path (a module of ours must not stand in for one of Python's); this file says where `rnd` is.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from rnd.services.exec_server import main

    main(sys.argv[1], sys.argv[2], foreground="--foreground" in sys.argv[3:])
