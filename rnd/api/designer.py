"""The designer's files over HTTP: what `tools/ui` built into `rnd/web/static/`, compressed, revalidated and fenced in.

They hold no data and need no token. The policy allows what the bundle does and nothing else: no script or style from
anywhere but here, no inline one, no request to another origin, no frame around it.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import hdrs, web

from rnd.types.errors import NotFound

BUNDLE: Final = Path(__file__).resolve().parent.parent / "web" / "static"
INDEX: Final = "index.html"
MAX_FILE_BYTES: Final = 4 << 20

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
FENCE: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # Asked for anew each time and answered with 304: after an upgrade nobody sees the old designer.
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}

_TYPES: Final = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
    "txt": "text/plain",
}
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}\.(" + "|".join(_TYPES) + r")", re.ASCII)
_NO_GZIP: Final = re.compile(r"gzip\s*;\s*q=0(\.0*)?\s*(,|$)", re.IGNORECASE)

_MISSING: Final = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>rnd</title>
<h1>The designer is not installed</h1>
<p>This is rnd, a peer of a remote network, and it runs; only the files of its designer are missing (rnd/web/static).</p>
<p>Install rnd again, or in a checkout build them: <code>cd tools/ui &amp;&amp; npm ci --ignore-scripts &amp;&amp; npm run build</code></p>
<p>Everything else works without it: <code>rnd --help</code>, or JSON-RPC 2.0 by <code>POST /rpc</code>,
of which <code>rpc.discover</code> is the reference.</p>
</html>
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asset:
    """A file as it is served, and what its file looked like when it was read."""

    content_type: str
    plain: bytes
    gzipped: bytes
    digest: str
    read_at: tuple[int, int]


class Designer:
    """Answers requests for the designer. A file is read when it is first asked for, and again when it has changed."""

    def __init__(self, bundle: Path = BUNDLE) -> None:
        self._bundle = bundle
        self._assets: dict[str, _Asset] = {}

    async def send_page(self, request: web.Request) -> web.StreamResponse:
        """Answer with the page, or where there is no bundle with one that says so."""
        try:
            return await self._send(request, INDEX)
        except NotFound:
            return web.Response(status=503, text=_MISSING, content_type="text/html", headers=FENCE)

    async def send_file(self, request: web.Request) -> web.StreamResponse:
        """Answer with what the page needs. Raises `NotFound`."""
        return await self._send(request, request.match_info["name"])

    async def _send(self, request: web.Request, name: str) -> web.StreamResponse:
        asset = await asyncio.to_thread(self._read, name)
        gzipped = _takes_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, ""))
        tag = f'"{asset.digest}-gzip"' if gzipped else f'"{asset.digest}"'
        headers = FENCE | {hdrs.ETAG: tag}
        if tag in _tags(request.headers.get(hdrs.IF_NONE_MATCH, "")):
            return web.Response(status=304, headers=headers)
        if gzipped:
            headers[hdrs.CONTENT_ENCODING] = "gzip"
        return web.Response(
            body=asset.gzipped if gzipped else asset.plain,
            content_type=asset.content_type,
            charset="utf-8",
            headers=headers,
        )

    def _read(self, name: str) -> _Asset:
        named = _NAME.fullmatch(name)
        if named is None:
            raise NotFound("There is no such file")
        path = self._bundle / name
        try:
            found = path.stat()
            state = (found.st_mtime_ns, found.st_size)
            known = self._assets.get(name)
            if known is not None and known.read_at == state:
                return known
            if found.st_size > MAX_FILE_BYTES:
                raise NotFound("There is no such file")
            plain = path.read_bytes()
        except OSError:
            raise NotFound("There is no such file") from None
        asset = _Asset(
            content_type=_TYPES[named[1]],
            plain=plain,
            gzipped=gzip.compress(plain, 9, mtime=0),
            digest=hashlib.sha256(plain).hexdigest()[:32],
            read_at=state,
        )
        self._assets[name] = asset
        return asset


def _takes_gzip(accepted: str) -> bool:
    return "gzip" in accepted.lower() and _NO_GZIP.search(accepted) is None


def _tags(header: str) -> frozenset[str]:
    """Return the tags of an If-None-Match, which is compared weakly (RFC 9110, 13.1.2)."""
    return frozenset(tag.strip().removeprefix("W/") for tag in header.split(","))
