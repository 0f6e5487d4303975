"""Entry of the spawner process: `python -I -S .../rnd/services/spawner_main.py DATA_DIR VERSION`.

With `--probe` in place of the version it says instead, in a line, why programs cannot be confined; nothing if they can.

Isolated Python knows no package but the standard library, so this file says where `rnd` is.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    if sys.argv[2] == "--probe":
        from rnd.services.confinement import probe

        sys.stdout.write(probe(sys.argv[1]))
    else:
        from rnd.services.spawner import main

        main(sys.argv[1], sys.argv[2])
