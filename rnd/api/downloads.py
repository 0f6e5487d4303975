"""Result files over HTTP: streamed by the kernel, Range honoured, always as an attachment, no symlink followed."""

from __future__ import annotations

import asyncio
import base64
import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import quote

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.web_request import BaseRequest

from rnd.api.confined_files import open_below
from rnd.api.context import ApiContext
from rnd.database import results
from rnd.types.errors import NotFound, TransferFailed
from rnd.types.ids import ConnectionId, ExecutionId, NodeId

HARMLESS: Final = {
    "Content-Type": "application/octet-stream",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-store",
}

CONDITIONS: Final = (hdrs.IF_MATCH, hdrs.IF_NONE_MATCH, hdrs.IF_MODIFIED_SINCE, hdrs.IF_UNMODIFIED_SINCE)
_ONE_RANGE: Final = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)


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
    """Stream the file that the URL names. Raises `NotFound`, and `TransferFailed` where it is not what came home."""
    execution_id, node_id, connection_id, path = _requested(request)
    file = await api.database.read(
        lambda conn: results.get_result_file(
            conn, execution_id=execution_id, node_id=node_id, connection_id=connection_id, path=path
        )
    )
    descriptor = await asyncio.to_thread(open_below, api.config.data_dir / file.directory, path)
    try:
        found = os.fstat(descriptor)
        if found.st_size != file.size_bytes:
            raise TransferFailed(
                f"The file has {found.st_size} bytes on the peer's disk and came home with {file.size_bytes}",
                hint="Somebody has changed it since; execution.retry brings it home anew.",
            )
        if _asks_for_nothing(request):
            return web.Response(status=416, headers=HARMLESS | {"Content-Range": f"bytes */{found.st_size}"})
        # aiohttp knows ranges and sendfile but opens by path; this path is the descriptor that was opened safely.
        headers = HARMLESS | _attachment(path) | {"Repr-Digest": _digest(file.sha256)}
        response = _SentOnce(Path(f"/proc/self/fd/{descriptor}"), headers=headers)
        await response.prepare(request.clone(headers=_conditions(request, found)))
    finally:
        os.close(descriptor)
    return response


def _conditions(request: web.Request, found: os.stat_result) -> dict[str, str]:
    """Return the headers that decide what is sent; a range that cannot be honoured is left out, as RFC 9110 has it.

    One range of bytes is honoured. Of others, of other units and of what is no range the whole file is sent, and so it is
    where If-Range names another state of the file than this.
    """
    wanted: dict[str, str] = {
        name: value for name in CONDITIONS if (value := request.headers.get(name)) is not None and value.isascii()
    }
    asked = _ONE_RANGE.fullmatch(request.headers.get(hdrs.RANGE, ""))
    if asked is None or not any(asked.groups()) or (all(asked.groups()) and int(asked[1]) > int(asked[2])):
        return wanted
    state = request.headers.get(hdrs.IF_RANGE)
    # The tag is the one that aiohttp gives a file; a date it compares itself.
    if state is not None and state != f'"{found.st_mtime_ns:x}-{found.st_size:x}"' and request.if_range is None:
        return wanted
    dated: dict[str, str] = {} if state is None else {hdrs.IF_RANGE: state}
    return {**wanted, **dated, hdrs.RANGE: f"bytes={asked[1]}-{asked[2]}"}


def _asks_for_nothing(request: web.Request) -> bool:
    """Tell whether the last no bytes are asked for, the one suffix that nothing satisfies."""
    asked = _ONE_RANGE.fullmatch(request.headers.get(hdrs.RANGE, ""))
    return asked is not None and not asked[1] and asked[2] != "" and int(asked[2]) == 0


def _digest(sha256: str) -> str:
    """Return a hash as the header Repr-Digest says it (RFC 9530); of a range it is that of the whole file."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"


def _requested(request: web.Request) -> tuple[ExecutionId, NodeId, ConnectionId, str]:
    numbers = [request.match_info[name] for name in ("execution_id", "node_id", "connection_id")]
    if not all(number.isascii() and number.isdigit() and len(number) < 19 for number in numbers):
        raise NotFound("There is no such file")
    execution_id, node_id, connection_id = map(int, numbers)
    return ExecutionId(execution_id), NodeId(node_id), ConnectionId(connection_id), request.match_info["path"]


def _attachment(path: str) -> dict[str, str]:
    name = path.rpartition("/")[2]
    return {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='', errors='surrogateescape')}"}
