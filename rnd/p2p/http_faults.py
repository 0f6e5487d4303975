"""What strangers can send at which aiohttp fails or writes to the log, answered as the bad request that it is."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from rnd.log import leave_out

ASCII_HEADERS: Final = (
    hdrs.CONNECTION,
    hdrs.EXPECT,
    hdrs.UPGRADE,
    hdrs.SEC_WEBSOCKET_EXTENSIONS,
    hdrs.SEC_WEBSOCKET_KEY,
    hdrs.SEC_WEBSOCKET_PROTOCOL,
    hdrs.SEC_WEBSOCKET_VERSION,
)
"""aiohttp repeats these in its answers, or decodes them, and fails at letters that no such header has."""

# It would write a traceback a request, with a header in it that may be a token.
leave_out("aiohttp.server", HttpProcessingError)


def guard(server: web.Server | None) -> None:
    """Have a server answer 400 where a header is not what it can be, before any handler of ours or of aiohttp's."""
    assert server is not None, "setup() comes first"
    handler = server.request_handler

    async def guarded(request: Any) -> web.StreamResponse:
        if all(request.headers.get(name, "").isascii() for name in ASCII_HEADERS):
            return await handler(request)
        response = web.Response(status=400)
        response.force_close()
        return response

    server.request_handler = guarded
