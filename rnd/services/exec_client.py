"""The daemon's side of rnd-exec: what is asked of it."""

from __future__ import annotations

import asyncio
import os
from typing import Any, Final

from rnd.services import seat
from rnd.services.seat_client import SeatClient, SeatGone, SeatLink
from rnd.types.errors import ExecutorUnavailable

SEAT: Final = "exec"
START_TIMEOUT_S: Final = 20.0
UNIT_TIMEOUT_S: Final = 5.0
"""How long a service manager may take to restart it, while somebody waits for an answer."""
AGAIN_S: Final = 0.2
AGAIN_MAX_S: Final = 5.0
ENVIRONMENT: Final = ("DOCKER_HOST", "DOCKER_CONFIG", "HOME", "XDG_RUNTIME_DIR")
"""Where the engine is and how its owner has logged in to registries; nothing else of ours reaches rnd-exec."""


class ExecLink(SeatLink):
    """One connection."""

    answer_max_bytes = 4 << 20

    def abandoned(self, number: int) -> None:
        """A pull ends with the last who wanted it."""
        self.write({"id": number, "op": "abandon"})


class ExecClient(SeatClient[ExecLink]):
    """Asks the rnd-exec of one data directory."""

    seat_name = SEAT
    title = "rnd-exec"
    request_timeout_s = 180.0
    """Longer than the bound that each of the few calls to the engine behind one request has."""
    retire_timeout_s = 60.0

    async def request_until_answered(self, operation: str, **fields: object) -> dict[str, Any]:
        """Ask for what comes in its time, and again whenever rnd-exec has gone meanwhile. Raises `ExecutorUnavailable`."""
        pause_s = AGAIN_S
        while True:
            try:
                link = await self.connect()
                answer = await link.ask(operation, fields)
            except (SeatGone, ExecutorUnavailable):
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, AGAIN_MAX_S)
                continue
            if "error" in answer:
                raise ExecutorUnavailable(str(answer["error"]))
            return answer

    def new_link(self) -> ExecLink:
        return ExecLink()

    def start(self) -> None:
        """Start rnd-exec, or wait for the one that a service manager runs: it alone may have rights on the engine."""
        data_dir = os.fspath(self.data_dir.absolute())
        if not seat.has_unit(data_dir, SEAT):
            env = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
            self.start_entry("exec_main.py", ("-P",), env, timeout_s=START_TIMEOUT_S)
        elif not seat.await_listener(data_dir, SEAT, UNIT_TIMEOUT_S):
            raise ExecutorUnavailable(
                "rnd-exec is a unit of the service manager and does not run: systemctl start rnd-exec; or remove "
                f"run/{seat.unit_name(SEAT)} in the data directory to have the daemon start it"
            )
