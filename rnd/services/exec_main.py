"""Entry of rnd-exec: `python -P .../rnd/services/exec_main.py DATA_DIR VERSION`, as the daemon starts it, or
`python -P -m rnd.services.exec_main DATA_DIR --foreground`, as a service manager does (systemd/rnd-exec.service).

Its folder is not on the path (a module of ours must not stand in for one of Python's); this file says where `rnd` is.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from rnd import __version__
    from rnd.services.exec_server import main

    match sys.argv[1:]:
        case [data_dir, "--foreground"]:
            main(data_dir, __version__, foreground=True)
        case [data_dir, version]:
            main(data_dir, version, foreground=False)
        case _:
            sys.exit(__doc__)
