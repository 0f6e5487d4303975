"""Who may call: tokens on TCP, Host and Origin allow-lists, and one-use tickets for browser downloads."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from rnd.database import api_tokens
from rnd.database.connection import Database
from rnd.types.enums import Scope
from rnd.types.errors import LimitExceeded, PermissionDenied
from rnd.types.seams import Clock, Entropy

TOKEN_PREFIX: Final = "rnd_"
TOKEN_BYTES: Final = 32
FIRST_TOKEN_NAME: Final = "first"
TOKEN_FILE: Final = "api_token"
MAX_TOKEN_CHARS: Final = 256

KNOWN_FOR_S: Final = 5.0
"""How long a checked token is remembered: a revocation typed into sqlite3 holds after this at the latest."""
MAX_KNOWN: Final = 256

TICKET_VALID_S: Final = 60.0
MAX_TICKETS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls over TCP: the token's id, what it may do, and when it ends."""

    token_id: int
    scope: Scope
    valid_until: datetime | None


def new_token(entropy: Entropy) -> str:
    """Return a fresh token of 256 random bits."""
    return TOKEN_PREFIX + base64.urlsafe_b64encode(entropy.random_bytes(TOKEN_BYTES)).rstrip(b"=").decode()


def token_digest(token: str) -> str:
    """Return the SHA-256 of a token in hexadecimal: all of it that is ever stored."""
    return hashlib.sha256(token.encode("utf-8", errors="surrogatepass")).hexdigest()


def token_of_header(header: str | None) -> str | None:
    """Return the token of an Authorization header: Bearer, or the password of Basic. `None`: there is none."""
    scheme, _, rest = (header or "").partition(" ")
    rest = rest.strip()
    if not rest or len(rest) > 2 * MAX_TOKEN_CHARS:
        return None
    if scheme.lower() == "bearer":
        return rest
    if scheme.lower() != "basic":
        return None
    try:
        _, colon, password = base64.b64decode(rest, validate=True).decode("utf-8").partition(":")
    except ValueError:  # it is no base64, not even ASCII, or no UTF-8
        return None
    return password if colon and password else None


class TokenGate:
    """Knows which token may do what. Remembers answers for a few seconds, so that a call costs no query."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._known: dict[str, tuple[float, Caller]] = {}
        self._on_revoke: list[Callable[[int], None]] = []

    async def admit(self, token: str | None) -> Caller | None:
        """Return the caller that a token stands for, or `None` where it is unknown, revoked or has ended."""
        if not token or len(token) > MAX_TOKEN_CHARS:
            return None
        digest = token_digest(token)
        remembered = self._known.get(digest)
        now_s = self._clock.monotonic()
        if remembered is not None and now_s < remembered[0]:
            caller = remembered[1]
        else:
            now = self._clock.now()
            row = await self._database.read(lambda conn: api_tokens.find_token(conn, digest, now=now))
            if row is None:
                return None
            caller = Caller(token_id=row.id, scope=row.scope, valid_until=row.valid_until)
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[digest] = (now_s + KNOWN_FOR_S, caller)
        if caller.valid_until is not None and caller.valid_until <= self._clock.now():
            return None
        return caller

    def forget(self, token_id: int) -> None:
        """Make a revocation hold at once, for connections that are open as well."""
        self._known.clear()
        for callback in tuple(self._on_revoke):
            callback(token_id)

    def on_revoke(self, callback: Callable[[int], None]) -> Callable[[], None]:
        """Call `callback` with the id of each revoked token; returns what ends that."""
        self._on_revoke.append(callback)
        return lambda: self._on_revoke.remove(callback)


async def ensure_first_token(data_dir: Path, database: Database, clock: Clock, entropy: Entropy) -> Path | None:
    """Write the first token to `<data-dir>/api_token` (0600) where no token was ever made; return the file if so.

    The file comes first: a crash in between leaves a token that opens nothing and is replaced at the next start.
    """
    if (await database.read(lambda conn: api_tokens.list_tokens(conn, limit=1))).total:
        return None
    token = new_token(entropy)
    path = data_dir / TOKEN_FILE
    write_private(path, token + "\n")
    await database.write(
        lambda conn: api_tokens.create_token(
            conn, name=FIRST_TOKEN_NAME, scope=Scope.ADMIN, token_sha256=token_digest(token), now=clock.now()
        )
    )
    return path


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowList:
    """Which Host and Origin headers TCP requests may carry, in lower case."""

    hosts: frozenset[str]
    origins: frozenset[str]

    def admits_host(self, headers: Sequence[str]) -> bool:
        """Tell whether there is exactly one Host header and it is on the list."""
        return len(headers) == 1 and headers[0].lower() in self.hosts

    def admits_origin(self, headers: Sequence[str]) -> bool:
        """Tell whether there is no Origin header (no browser), or exactly one that is on the list."""
        return not headers or (len(headers) == 1 and headers[0].lower() in self.origins)


def allow_list(
    address: tuple[str, int], *, allowed_hosts: Sequence[str] = (), allowed_origins: Sequence[str] = ()
) -> AllowList:
    """Return the allow-list of a listener: loopback names and its own address with its port, and what is configured.

    A name in `allowed_hosts` without a port counts with and without the listener's port.
    """
    host, port = address
    bracketed = f"[{host}]" if ":" in host else host
    names = {"127.0.0.1", "localhost", "[::1]", bracketed.lower()} - {"0.0.0.0", "[::]"}  # noqa: S104 - taken out, not bound
    hosts = {f"{name}:{port}" for name in names}
    if port == 80:
        hosts |= names
    origins = {f"http://{name}" for name in hosts}
    for name in (entry.lower() for entry in allowed_hosts):
        hosts |= {name, name if _has_port(name) else f"{name}:{port}"}
    return AllowList(
        hosts=frozenset(hosts), origins=frozenset(origins | {origin.lower() for origin in allowed_origins})
    )


def _has_port(name: str) -> bool:
    return name.rpartition(":")[2].isdigit() and not name.endswith("]")


class TicketBook:
    """One-use tickets of 60 s: a browser's link carries one in place of the token."""

    def __init__(self, clock: Clock, entropy: Entropy) -> None:
        self._clock = clock
        self._entropy = entropy
        self._open: dict[str, tuple[float, str]] = {}

    def issue(self, key: str) -> tuple[str, datetime]:
        """Return a ticket for one download, and when it ends. Raises `LimitExceeded`."""
        now_s = self._clock.monotonic()
        self._open = {digest: entry for digest, entry in self._open.items() if entry[0] > now_s}
        if len(self._open) >= MAX_TICKETS:
            raise LimitExceeded("Too many download tickets are open", hint="Use those that were issued, or wait 60 s.")
        ticket = base64.urlsafe_b64encode(self._entropy.random_bytes(TOKEN_BYTES)).rstrip(b"=").decode()
        self._open[token_digest(ticket)] = (now_s + TICKET_VALID_S, key)
        return ticket, self._clock.now() + timedelta(seconds=TICKET_VALID_S)

    def fits(self, ticket: str, key: str) -> bool:
        """Tell whether a ticket would open this download; it stays as it is."""
        ends_s, opened = self._open.get(token_digest(ticket), (0.0, ""))
        return ends_s > self._clock.monotonic() and opened == key

    def redeem(self, ticket: str, key: str) -> bool:
        """Use up a ticket; tell whether it opens this download."""
        ends_s, opened = self._open.pop(token_digest(ticket), (0.0, ""))
        return ends_s > self._clock.monotonic() and opened == key


def refuse_login() -> PermissionDenied:
    """Return the answer to a token that opens nothing."""
    return PermissionDenied("The token is not valid", hint="Use the token in <data-dir>/api_token, or make a new one.")
