"""The DOCKER executor: containers, and the images they are made of (document: DOCKER Service Execution).

All that concerns the engine is done by rnd-exec (ADR 13); this is the daemon's side of it, which never sees the engine's
socket. `docker_run` turns a job and its service into what is run; `DockerExecutor` has it run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from rnd import __version__
from rnd.services import seat
from rnd.services.exec_client import ExecClient
from rnd.services.executor import Health, JobRun, Observation, OwnContainer, Phase
from rnd.services.images import ImageFacts, PullProgress, RegistryAuth, Tell
from rnd.types.definitions import JobPlan
from rnd.types.enums import LogStream
from rnd.types.errors import ExecutorUnavailable
from rnd.types.services import Service
from rnd.types.times import from_text

IMAGE_TIMEOUT_S: Final = 3900.0
"""Longer than the bounds of a pull and of a build in rnd-exec."""
BOUND_NAMES: Final = ("cpus", "memory_bytes", "pids", "disk_bytes", "open_files", "gpus")


class DockerExecutor:
    """Runs containers for one data directory. The first request starts rnd-exec if none is there."""

    name = "docker"

    def __init__(self, data_dir: Path, *, version: str = __version__) -> None:
        self._data_dir = data_dir
        self._exec = ExecClient(data_dir, version=version)
        self._builds = 0

    async def run(self) -> None:
        """Hold the connection until cancelled; then tell rnd-exec that it may go once it keeps nothing."""
        try:
            await asyncio.Event().wait()
        finally:
            await self.close()

    async def close(self) -> None:
        """Hang up. Jobs go on; rnd-exec ends when the last one has, unless a daemon comes back to it."""
        await self._exec.close(stop=True)

    # ------------------------------------------------------------- the executor

    async def check(self) -> Health:
        """Say whether containers can be run here now, by asking the engine."""
        try:
            engine = (await self._exec.request("check"))["engine"]
        except (ExecutorUnavailable, OSError) as error:
            return Health(available=False, reason=str(error))
        kind = "podman" if engine["is_podman"] else "docker"
        version = f"{kind} {engine['version']} (API {engine['api_version']})"
        if engine["remapped"]:
            reason = "the engine remaps users (userns-remap), so that containers could not write their outputs"
            return Health(available=False, version=version, reason=reason)
        return Health(available=True, version=version)

    def refusal(self, service: Service, plan: JobPlan, *, foreign: bool) -> str | None:  # noqa: ARG002 - the interface's
        """Say why a job could not be run here as things are: what the engine lacks shows when it is asked."""
        return None

    def expect_runs(self, at_once: int = 0) -> None:
        """Do nothing: an engine is there or it is not. See `Executor.expect_runs`."""

    async def submit(self, run: JobRun) -> str:
        """Create and start a container, or find the one of this name, and return its handle. See `Executor.submit`."""
        if run.container is None:
            raise ExecutorUnavailable(f"{run.engine_name} names no image")
        try:
            answer = await self._exec.request("submit", run=_message(run))
        except OSError as error:
            raise ExecutorUnavailable(f"rnd-exec cannot be started: {error}") from error
        return _handle(run.engine_name, run.directory, str(answer["container_id"]))

    async def find(self, engine_name: str, directory: Path) -> str | None:
        """Return the handle of a run that was submitted under this name in `directory`, or `None`."""
        path = os.fspath(directory.absolute())  # noqa: ASYNC240 - asks the kernel at most for the current folder
        try:
            answer = await self._exec.request("find", engine_name=engine_name, directory=path)
        except OSError as error:
            raise ExecutorUnavailable(f"rnd-exec cannot be started: {error}") from error
        container_id = str(answer["container_id"])
        return _handle(engine_name, directory, container_id) if container_id else None

    async def wait(self, handle: str) -> Observation:
        """Return how a run ended, once it has. See `Executor.wait`."""
        answer = await self._exec.request_until_answered("wait", **json.loads(handle))
        return _observation(answer["ended"])

    async def poll(self, handles: Sequence[str]) -> dict[str, Observation]:
        """Return what is known of each run now; UNKNOWN, with the reason, while the engine does not answer."""
        try:
            answer = await self._exec.request("poll", runs=[json.loads(handle) for handle in handles])
        except (ExecutorUnavailable, OSError) as error:
            return dict.fromkeys(handles, Observation(phase=Phase.UNKNOWN, reason=str(error)))
        return {handle: _observation(seen) for handle, seen in zip(handles, answer["seen"], strict=True)}

    async def cancel(self, handle: str, grace_s: float) -> None:
        """Have a container end: SIGTERM, and SIGKILL after `grace_s`. See `Executor.cancel`."""
        await self._exec.request("cancel", **json.loads(handle), grace_s=grace_s)

    async def cleanup(self, handle: str) -> None:
        """Remove a container and its secrets. Idempotent; the record stays with the job's folder."""
        await self._exec.request("cleanup", **json.loads(handle))

    # ------------------------------------------------------------- what nobody may know of

    async def containers(self) -> tuple[OwnContainer, ...]:
        """Return every container of this data directory, in whatever state; those of others are never among them."""
        answer = await self._exec.request("list")
        return tuple(
            OwnContainer(
                container_id=str(each["container_id"]),
                name=str(each["name"]),
                engine_name=str(each["engine_name"]),
                directory=Path(each["directory"]),
                labels=each["labels"],
                state=str(each["state"]),
                created_at=datetime.fromtimestamp(each["created_s"], UTC),
            )
            for each in answer["containers"]
        )

    async def discard(self, container: OwnContainer) -> None:
        """End and remove a container that nothing knows of. Idempotent."""
        await self._exec.request("discard", container_id=container.container_id)

    # ------------------------------------------------------------- images

    async def look_up(self, image: str) -> ImageFacts | None:
        """Return an image that is in the store. See `Images.look_up`."""
        found = (await self._exec.request("image", image=image))["image"]
        return None if found is None else _image_facts(found, image)

    async def pull(self, image: str, auth: RegistryAuth | None, tell: Tell) -> ImageFacts:
        """Have an image brought here; rnd-exec has one pull for all who want it now. See `Images.pull`."""
        progress = _Progress(image, tell)
        fields = None if auth is None else {"username": auth.username, "password": auth.password}
        try:
            await self._exec.request("pull", timeout_s=IMAGE_TIMEOUT_S, news=progress.hear, image=image, auth=fields)
        except OSError as error:
            raise ExecutorUnavailable(f"rnd-exec cannot be started: {error}") from error
        found = await self.look_up(image)
        if found is None:
            raise ExecutorUnavailable(f"{image} was pulled and is gone again")
        return found

    async def build(self, context: Path, tag: str, tell: Tell) -> ImageFacts:
        """Build an image from a folder with a Dockerfile, without network. See `Images.build`."""
        self._builds += 1
        tar = self._data_dir / "run" / f"build-{os.getpid()}-{self._builds}.tar"
        progress = _Progress(tag, tell)
        try:
            await asyncio.to_thread(_pack, context, tar)
            await self._exec.request("build", timeout_s=IMAGE_TIMEOUT_S, news=progress.hear, context=tar.name, tag=tag)
        except OSError as error:
            raise ExecutorUnavailable(f"{context} cannot be built: {error}") from error
        finally:
            with contextlib.suppress(OSError):
                tar.unlink(missing_ok=True)
        found = await self.look_up(tag)
        if found is None:
            raise ExecutorUnavailable(f"{tag} was built and is gone again")
        return found


class _Progress:
    """How far one pull or build is, of all that the engine says of it."""

    def __init__(self, image: str, tell: Tell) -> None:
        self._image = image
        self._tell = tell
        self._layers: dict[str, tuple[int, int]] = {}

    def hear(self, news: dict[str, Any]) -> None:
        """Take one piece of the engine's news and tell how far it all is."""
        detail = news.get("progressDetail") or {}
        if news.get("id") and isinstance(detail.get("total"), int) and news.get("status") == "Downloading":
            self._layers[str(news["id"])] = int(detail.get("current", 0)), int(detail["total"])
        elif news.get("status") in ("Download complete", "Pull complete") and str(news.get("id")) in self._layers:
            total = self._layers[str(news["id"])][1]
            self._layers[str(news["id"])] = total, total
        progress = PullProgress(
            image=self._image,
            status=str(news.get("status") or news.get("stream") or "").strip(),
            bytes_done=sum(done for done, _ in self._layers.values()),
            bytes_total=sum(total for _, total in self._layers.values()),
        )
        if progress.status:
            self._tell(progress)


class _Kept(NamedTuple):
    engine_name: str
    directory: str
    container_id: str


def _handle(engine_name: str, directory: Path, container_id: str) -> str:
    return json.dumps(_Kept(engine_name, os.fspath(directory.absolute()), container_id)._asdict())


def _message(run: JobRun) -> dict[str, object]:
    container = run.container
    assert container is not None
    return {
        "engine_name": run.engine_name,
        "directory": os.fspath(run.directory.absolute()),
        "name": container.name,
        "image_id": container.image_id,
        "entrypoint": None if container.entrypoint is None else list(container.entrypoint),
        "cmd": None if container.cmd is None else list(container.cmd),
        "env": dict(run.env),
        "mounts": [
            {"source": os.fspath(mount.source.absolute()), "target": mount.target, "writable": mount.writable}
            for mount in container.mounts
        ],
        "network": container.network,
        "user": container.user,
        "read_only_root": container.read_only_root,
        "tmpfs_bytes": container.tmpfs_bytes,
        "cap_add": list(container.cap_add),
        "labels": dict(container.labels),
        "stdin_files": [os.fspath(path.absolute()) for path in run.stdin_files],
        "limits": {name: getattr(run.limits, name) for name in BOUND_NAMES},
        "stream_bytes": run.stream_bytes,
        "grace_s": run.grace_s,
        "secrets": {name: value.hex() for name, value in run.secrets.items()},
    }


def _observation(ended: Mapping[str, Any]) -> Observation:
    return Observation(
        phase=Phase(ended["phase"]),
        exit_code=ended.get("exit_code"),
        signal=ended.get("signal"),
        reason=str(ended.get("reason", "")),
        started_at=_moment(ended.get("started_at")),
        ended_at=_moment(ended.get("ended_at")),
        streams_cut=tuple(LogStream(name) for name in ended.get("streams_cut", ())),
        streams_lost=ended.get("streams_lost") is True,
    )


def _moment(text: str | None) -> datetime | None:
    return from_text(text) if text else None


def _image_facts(found: Mapping[str, Any], image: str) -> ImageFacts:
    config = found.get("Config") or {}
    return ImageFacts(
        image_id=str(found["Id"]),
        digest=_digest_of(found.get("RepoDigests") or [], image),
        architecture=str(found.get("Architecture", "")),
        size_bytes=int(found.get("Size") or 0),
        entrypoint=tuple(config.get("Entrypoint") or ()),
        cmd=tuple(config.get("Cmd") or ()),
        volumes=tuple(config.get("Volumes") or ()),
        working_directory=str(config.get("WorkingDir") or ""),
        user=str(config.get("User") or ""),
    )


def _digest_of(digests: Sequence[str], image: str) -> str:
    """Return the digest under which the registry of this name has the image, or any that there is."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    repository = head + slash + last.partition(":")[0]
    for digest in digests:
        known = digest.partition("@")[0]
        if known == repository or known.removeprefix("docker.io/").removeprefix("library/") == repository:
            return digest
    return digests[0] if digests else ""


def _pack(context: Path, tar: Path) -> None:
    """Make a tar of a build context: files and folders, with links as links, owned by root."""
    if not (context / "Dockerfile").is_file():
        raise FileNotFoundError(2, "there is no Dockerfile", os.fspath(context))
    os.close(seat.open_folder(os.fspath(tar.parent.parent)))
    descriptor = os.open(tar, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w") as archive:
        archive.add(context, arcname=".", filter=_plain_member)


def _plain_member(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
