"""One server for the tests of a module, driven from synchronous tests; tests that need another config start their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.api.live_api import LiveApi, RpcError, serving

T = TypeVar("T")


class Peer:
    """A live API whose event loop runs in a thread of its own."""

    def __init__(self, data_dir: Path, **config: Any) -> None:
        self.data_dir = data_dir
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._serving = serving(data_dir, **config)
        self.api: LiveApi = self.run(self._serving.__aenter__())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the server's loop and return what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def call(self, method: str, /, **params: Any) -> Any:
        """Call a method over the unix socket. Raises `RpcError`."""
        return self.run(self.api.call(method, **params))

    def refusal(self, method: str, /, **params: Any) -> RpcError:
        """Return the error that a call is refused with."""
        return self.run(self.api.refusal(method, **params))

    def close(self) -> None:
        self.run(self._serving.__aexit__(None, None, None))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    live = Peer(tmp_path_factory.mktemp("peer") / "data")
    yield live
    live.close()
