"""Images on their way into the engine's store: pulls and builds (ruling 14).

Both are followed on the engine's socket. To hang up is to call them off: the engine ends what nobody listens to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import urlencode

from rnd.services.engine import Engine
from rnd.services.engine_streams import EngineRefused, Opened

PULL_TIMEOUT_S: Final = 3600.0
PULL_SILENCE_S: Final = 120.0
BUILD_TIMEOUT_S: Final = 3600.0
BUILD_MEMORY_BYTES: Final = 4 << 30
LOGINS_TIMEOUT_S: Final = 30.0
LAST_LINES: Final = 20

Tell = Callable[[dict[str, Any]], None]
"""Takes one piece of news of a pull or a build."""


async def pull(engine: Engine, image: str, auth: Mapping[str, str] | None, tell: Tell) -> None:
    """Have an image brought here; without `auth` as who has logged in with docker. Raises `EngineGone`, `EngineRefused`."""
    repository, tag = name_and_tag(image)
    path = "images/create?" + urlencode({"fromImage": repository, "tag": tag})
    headers = await _in_time(asyncio.to_thread(_login, repository, auth))
    await _follow(engine, path, tell, within_s=PULL_TIMEOUT_S, silence_s=PULL_SILENCE_S, headers=headers)


async def build(engine: Engine, context: int, tag: str, tell: Tell) -> None:
    """Build an image from a tar, an open file, without network. Raises `EngineGone`, `EngineRefused` with its last lines."""
    terms = {
        "t": tag,
        "rm": 1,
        "forcerm": 1,
        "networkmode": "none",
        "memory": BUILD_MEMORY_BYTES,
        "memswap": BUILD_MEMORY_BYTES,
    }
    headers = {"Content-Type": "application/x-tar", **await _in_time(asyncio.to_thread(_logins))}
    path = "build?" + urlencode(terms)
    await _follow(
        engine, path, tell, within_s=BUILD_TIMEOUT_S, silence_s=BUILD_TIMEOUT_S, headers=headers, body=context
    )


def name_and_tag(image: str) -> tuple[str, str]:
    """Part a name from its digest, or else its tag; `latest` where it has neither."""
    name, _, digest = image.partition("@")
    head, slash, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    return f"{head}{slash}{last}", digest or tag or "latest"


async def _follow(
    engine: Engine,
    path: str,
    tell: Tell,
    *,
    within_s: float,
    silence_s: float,
    headers: Mapping[str, str],
    body: int | None = None,
) -> None:
    try:
        async with asyncio.timeout(within_s):
            stream = await engine.stream("POST", path, headers=headers, body=body, timeout_s=silence_s)
            try:
                await _hand_on(stream, tell, silence_s)
            finally:
                await stream.close()
    except TimeoutError:
        raise EngineRefused(504, f"it was not done within {within_s:.0f} s") from None


async def _hand_on(stream: Opened, tell: Tell, silence_s: float) -> None:
    """Hand on what is said. Raises `EngineRefused` with what went wrong, in the engine's words."""
    lines: list[str] = []
    async for piece in stream.news(silence_s):
        if words := _error_words(piece):
            raise EngineRefused(500, "\n".join([*lines[-LAST_LINES:], words]))
        if said := str(piece.get("stream", "")).strip():
            lines.append(said)
        tell(piece)


def _error_words(piece: Mapping[str, object]) -> str:
    """Return what went wrong, if anything did: engines are to leave `error` out one day, and podman knows nothing else."""
    detail = piece.get("errorDetail")
    words = detail.get("message") if isinstance(detail, dict) else None
    return str(words or piece.get("error") or ("the engine does not say why" if detail else ""))


async def _in_time(headers: Awaitable[dict[str, str]]) -> dict[str, str]:
    """Return what is known of logins: programs that keep them may hang. Raises `EngineRefused`."""
    try:
        async with asyncio.timeout(LOGINS_TIMEOUT_S):
            return await headers
    except TimeoutError:
        raise EngineRefused(504, "the program that keeps docker's logins (credsStore) does not answer") from None


def _login(repository: str, auth: Mapping[str, str] | None) -> dict[str, str]:
    """In a thread: return who asks the registry of a repository, by header."""
    from docker import auth as logins

    if auth is None:
        registry, _ = logins.resolve_repository_name(repository)
        found = logins.load_config().resolve_authconfig(registry)
    else:
        found = dict(auth)
    return {"X-Registry-Auth": logins.encode_header(found).decode()} if found else {}


def _logins() -> dict[str, str]:
    """In a thread: return every login of whoever runs this, for what a build needs from registries."""
    from docker import auth as logins

    known = logins.load_config().get_all_credentials()  # type: ignore[no-untyped-call]  # the stubs lack its type
    return {"X-Registry-Config": logins.encode_header(known).decode()} if known else {}
