"""Methods about this node: its status, what its machine can do, and the tokens that open its API."""

from __future__ import annotations

import asyncio
import os
import platform
from datetime import timedelta
from pathlib import Path
from typing import Final

from rnd import __version__
from rnd.api.auth import new_token, token_digest
from rnd.api.context import ApiContext, Call
from rnd.api.rendering import JsonMembers, render, render_page
from rnd.database import api_tokens, job_executions, transfers, workflow_executions
from rnd.types.enums import Scope
from rnd.types.times import to_text

CHECK_TIMEOUT_S: Final = 5.0
_GPU_FOLDER: Final = Path("/proc/driver/nvidia/gpus")


async def node_status(call: Call) -> JsonMembers:
    """Answer `node.status`."""
    api = call.api
    jobs, executions, active = await api.database.read(
        lambda conn: (
            job_executions.count_by_status(conn),
            workflow_executions.count_by_status(conn),
            transfers.count_active(conn),
        )
    )
    return {
        "peer_id": api.peer_id,
        "name": api.name,
        "version": __version__,
        "started_at": to_text(api.started_at),
        "uptime_s": round(api.clock.monotonic() - api.started_at_s, 3),
        "api": {"url": api.endpoints.url, "socket": api.endpoints.socket},
        "peer_addresses": list(api.endpoints.peer_addresses),
        "executors": await check_executors(api),
        "jobs": jobs,
        "executions": executions,
        "transfers_active": active,
        "peers_connected": api.peers_connected(),
        "disk_free_bytes": disk_free_bytes(api.config.data_dir),
    }


async def node_capabilities(call: Call) -> JsonMembers:
    """Answer `node.capabilities`."""
    return await capabilities_of(call.api)


async def capabilities_of(api: ApiContext) -> JsonMembers:
    """Return what a job could count on here."""
    executors = await check_executors(api)
    docker = executors["docker"]
    return {
        "platform": platform.system().lower(),
        "architecture": platform.machine(),
        "cpu_cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "disk_free_bytes": disk_free_bytes(api.config.data_dir),
        "gpus": await asyncio.to_thread(_gpus),
        "docker": docker.get("version") if docker["available"] else None,
        "python": platform.python_version(),
        "executors": executors,
    }


async def check_executors(api: ApiContext) -> dict[str, JsonMembers]:
    """Return for each kind of executor whether it works, and why not."""
    health: dict[str, JsonMembers] = {
        "docker": {"available": False, "reason": "this version of rnd runs no containers"},
        "standalone": {"available": False, "reason": "not configured"},
    }
    for name, executor in api.executors.items():
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                health[name] = {key: fact for key, fact in render(await executor.check()).items() if fact is not None}
        except TimeoutError:
            health[name] = {"available": False, "reason": f"no answer within {CHECK_TIMEOUT_S:g} s"}
    health["docker"].pop("sandbox", None)  # a container is confined, or there is none
    return health


def disk_free_bytes(directory: Path) -> int:
    """Return how much this user can still write on a folder's disk."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def _gpus() -> list[str]:
    """Return the GPUs that the kernel's driver shows. What has no driver here cannot be used by a job either."""
    try:
        folders = sorted(_GPU_FOLDER.iterdir())
    except OSError:
        return []
    names = []
    for folder in folders:
        lines = (folder / "information").read_text(encoding="utf-8", errors="replace").splitlines()
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
        names.append(models[0] if models else folder.name)
    return names


async def token_create(call: Call, *, name: str, scope: Scope, valid_s: float | None = None) -> JsonMembers:
    """Answer `token.create`: the token is shown this once."""
    api = call.api
    token = new_token(api.entropy)
    now = api.clock.now()
    row = await api.database.write(
        lambda conn: api_tokens.create_token(
            conn,
            name=name,
            scope=scope,
            token_sha256=token_digest(token),
            valid_until=None if valid_s is None else now + timedelta(seconds=valid_s),
            now=now,
        )
    )
    return {**_render_token(row), "token": token}


async def token_list(call: Call, *, limit: int, after_id: int) -> JsonMembers:
    """Answer `token.list`: names, scopes and times, never a token."""
    page = await call.api.database.read(lambda conn: api_tokens.list_tokens(conn, limit=limit, after_id=after_id))
    return render_page(page, _render_token)


async def token_revoke(call: Call, *, token_id: int) -> JsonMembers:
    """Answer `token.revoke`: it holds at once, for open websockets too."""
    now = call.api.clock.now()
    row = await call.api.database.write(lambda conn: api_tokens.revoke_token(conn, token_id, now=now))
    call.api.gate.forget(row.id)
    return _render_token(row)


def _render_token(row: api_tokens.ApiToken) -> JsonMembers:
    return {**render(row), "token_id": row.id}
