"""The daemon's side of the spawner: what is asked of it, and what it tells without being asked."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any, Final

from rnd.services import spawner
from rnd.services.seat_client import SeatClient, SeatGone, SeatLink, run_entry
from rnd.types.errors import ExecutorUnavailable

START_TIMEOUT_S: Final = 10.0
ENTRY: Final = "spawner_main.py"
OPTIONS: Final = ("-I", "-S")
EndTold = dict[str, Any]
"""The last line of a run's record as its keeper told it; empty where it has to be read there."""


class SpawnerLink(SeatLink):
    """One connection. `ends` holds, by engine name, the runs whose end comes without another request: `None` if it was lost."""

    answer_max_bytes = 1 << 16

    def __init__(self) -> None:
        super().__init__()
        self.ends: dict[str, asyncio.Future[EndTold | None]] = {}
        self._started: dict[int, asyncio.Future[EndTold | None]] = {}

    def heard(self, answer: dict[str, Any]) -> None:
        number = answer["id"]
        end = self._started.pop(number, None)
        if end is not None:
            if not end.done():
                end.set_result(answer["ended"] or {})
            return
        if answer.get("tells"):
            end = asyncio.get_running_loop().create_future()
            self._started[number] = self.ends[answer["handle"]["engine_name"]] = end
        super().heard(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for end in self._started.values():
            if not end.done():
                end.set_result(None)
        self._started.clear()


class SpawnerClient(SeatClient[SpawnerLink]):
    """Asks the spawner of one data directory."""

    seat_name = spawner.SEAT
    title = "the spawner"
    request_timeout_s = 30.0
    retire_timeout_s = 30.0

    async def submit(self, run: dict[str, Any]) -> dict[str, Any]:
        """Have a run started, or found, and return its handle. Raises `ExecutorUnavailable` as `request` does."""
        return dict((await self.request("submit", run=run))["handle"])

    def tells(self, engine_name: str) -> bool:
        """Say whether the spawner tells the end of a run without being asked: of those it started for this client."""
        return self.link is not None and engine_name in self.link.ends

    async def ended(self, engine_name: str, keeper_pid: int) -> EndTold | None:
        """Wait until a run has ended; return how, `None` at once where that cannot be learned from a spawner.

        That is so if none is there, if it goes, or if the run has a keeper that is not its own. How a run ended is told
        once; whoever asks again finds it in the record.
        """
        try:
            link = await self.find()
            if link is None:
                return None
            if engine_name in link.ends:
                told = await asyncio.shield(link.ends[engine_name])
                link.ends.pop(engine_name, None)
                return told
            answer = await link.ask("wait", {"engine_name": engine_name, "keeper_pid": keeper_pid})
        except (SeatGone, ExecutorUnavailable):
            return None
        if "stranger" in answer or "error" in answer:
            return None
        return answer.get("ended") or {}

    def forget(self, engine_name: str) -> None:
        """Drop what is known of a run that nobody will ask for any more."""
        if self.link is not None:
            self.link.ends.pop(engine_name, None)

    def new_link(self) -> SpawnerLink:
        return SpawnerLink()

    def start(self) -> None:
        self.start_entry(ENTRY, OPTIONS, {}, timeout_s=START_TIMEOUT_S)


def probe_confinement(data_dir: Path) -> str:
    """Return "" or why programs cannot be confined here. Blocks while a process of its own tries it."""
    try:
        done = run_entry(ENTRY, OPTIONS, data_dir, "--probe", env={}, timeout_s=START_TIMEOUT_S, stdout=subprocess.PIPE)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the probe of it does not run: {error}"
    words = (done.stderr if done.returncode != 0 else done.stdout).decode(errors="replace").strip()
    return words.rpartition("\n")[2] or ("" if done.returncode == 0 else "the probe of it failed")
