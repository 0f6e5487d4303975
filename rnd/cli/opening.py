"""The command `rnd open`: the designer in a browser, signed in."""

from __future__ import annotations

import contextlib
import html
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from rnd.cli.connection import Daemon
from rnd.cli.failures import AUTH, OK, CommandFailed
from rnd.cli.session import Session, read_secret

TOKEN_FILE: Final = "api_token"
PAGE_FILE: Final = "rnd-open.html"
_MAKE_ONE: Final = "rnd token create designer --scope admin makes another; open {url} and paste it there."
_PAGE: Final = """\
<!doctype html>
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={address}">
<title>rnd</title>
<p><a href="{address}">Open the designer</a></p>
"""


def open_designer(session: Session) -> int:
    """Print the designer's address with the token in its fragment, and open it where a browser can be shown."""
    terminal = session.terminal
    url = _url(session)
    address = f"{url}/#token={quote(_token(session, url), safe='')}"
    wanted = not session.arguments.no_browser and not terminal.as_json and not terminal.quiet
    if terminal.as_json:
        terminal.data({"url": address})
    else:
        terminal.line(address)
    if not wanted:
        return OK
    if not _can_show(session.environment):
        port = urlsplit(url).port or 80
        terminal.note(
            "note: there is no display here for a browser. Open the address on this machine's desktop; from another "
            f"machine, run  ssh -L {port}:127.0.0.1:{port} THIS-MACHINE  there, and open the same address there"
        )
    elif not _show(session, address):
        terminal.note("note: no browser could be started; open the address yourself")
    return OK


def _url(session: Session) -> str:
    api = session.call("node.status").get("api") or {}
    given: str = session.daemon.place if session.is_remote else str(api.get("url") or "")
    if not given:
        raise CommandFailed(
            "the peer's API listens at its socket only, which no browser can reach",
            hint="Start it with an address, such as rnd serve --api 127.0.0.1:30069.",
        )
    return given.rstrip("/")


def _token(session: Session, url: str) -> str:
    """Return a token that opens the API. Raises `CommandFailed` for one that cannot be read or has ended."""
    if session.is_remote:
        return session.token()
    path = session.data_dir() / TOKEN_FILE
    hint = _MAKE_ONE.format(url=url)
    try:
        token = read_secret(path).strip()
    except CommandFailed as failed:
        raise CommandFailed(failed.message, exit_code=AUTH, hint=hint) from None
    with contextlib.closing(Daemon(url=url, token=token)) as door:
        try:
            door.call("node.status", {})
        except CommandFailed as failed:
            if failed.exit_code != AUTH:
                raise
            raise CommandFailed(f"the token in {path} does not hold any more", exit_code=AUTH, hint=hint) from None
    return token


def _can_show(environment: Mapping[str, str]) -> bool:
    return any(environment.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def _show(session: Session, address: str) -> bool:
    """Start the browser on a page of the owner's that leads on: every user of a machine can read command lines."""
    runtime = session.environment.get("XDG_RUNTIME_DIR", "")
    folder = Path(runtime) if runtime and Path(runtime).is_dir() else session.data_dir()
    page = folder / PAGE_FILE
    try:
        page.unlink(missing_ok=True)
        descriptor = os.open(page, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(_PAGE.format(address=html.escape(address)))
    except OSError:
        return False
    import webbrowser

    return webbrowser.open(page.as_uri())
