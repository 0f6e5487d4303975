"""Result files over HTTP: streamed by the kernel, Range honoured, always as an attachment, no symlink followed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final
from urllib.parse import quote

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.web_request import BaseRequest

from rnd.api.confined_files import open_below
from rnd.api.context import ApiContext
from rnd.database import results
from rnd.types.errors import NotFound
from rnd.types.ids import ConnectionId, ExecutionId, NodeId

HARMLESS: Final = {
    "Content-Type": "application/octet-stream",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-store",
}


class _SentOnce(web.FileResponse):
    """A file that is read while its handler runs and never again.

    aiohttp prepares whatever a handler returns once more. A file response would look at its path a second time, which
    names nothing by then, or another request's file.
    """

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:
        if self.prepared:
            return await web.StreamResponse.prepare(self, request)
        return await super().prepare(request)


def result_url(execution_id: ExecutionId, node_id: NodeId, connection_id: ConnectionId, path: str) -> str:
    """Return the URL path of a result file."""
    return f"/results/{execution_id}/{node_id}/{connection_id}/{quote(path, errors='surrogateescape')}"


def download_key(execution_id: int, node_id: int, connection_id: int, path: str) -> str:
    """Return what a ticket for one file is bound to, however its URL is spelt."""
    return f"{execution_id}/{node_id}/{connection_id}/{path}"


def requested_key(request: web.Request) -> str:
    """Return the key of the file that a URL names. Raises `NotFound`."""
    return download_key(*_requested(request))


async def send_result(api: ApiContext, request: web.Request) -> web.StreamResponse:
    """Stream the file that the URL names. Raises `NotFound`."""
    execution_id, node_id, connection_id, path = _requested(request)
    result = await api.database.read(
        lambda conn: results.get_result(
            conn,
            execution_id=execution_id,
            node_id=node_id,
            connection_id=connection_id,
        )
    )
    if not result.duty_acknowledged:
        raise NotFound("There is no such file", hint="The result has not arrived yet; see execution.get.")
    descriptor = await asyncio.to_thread(open_below, api.config.data_dir / result.directory, path)
    try:
        # aiohttp knows ranges and sendfile but opens by path; this path is the descriptor that was opened safely.
        response = _SentOnce(Path(f"/proc/self/fd/{descriptor}"), headers=HARMLESS | _attachment(path))
        await response.prepare(request)
    finally:
        os.close(descriptor)
    return response


def _requested(request: web.Request) -> tuple[ExecutionId, NodeId, ConnectionId, str]:
    numbers = [request.match_info[name] for name in ("execution_id", "node_id", "connection_id")]
    if not all(number.isascii() and number.isdigit() and len(number) < 19 for number in numbers):
        raise NotFound("There is no such file")
    execution_id, node_id, connection_id = map(int, numbers)
    return ExecutionId(execution_id), NodeId(node_id), ConnectionId(connection_id), request.match_info["path"]


def _attachment(path: str) -> dict[str, str]:
    name = path.rpartition("/")[2]
    return {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='', errors='surrogateescape')}"}
