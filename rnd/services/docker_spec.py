"""Turns an order for a container into what the engine is asked to create: the one builder of it (design: Running other people's code).

Pure. An order comes from outside the process that holds the engine's socket, so it is read field by field, and what the
engine is sent is built from those fields alone: nobody can ask for more than `create_body` ever says. A test holds its
output against a list of every key and value that there may be. Source of the keys: Engine API 1.41, ContainerCreate.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from rnd.rules.containers import CAPABILITIES, SCRATCH, TMPFS_MAX_BYTES, USER_PATTERN
from rnd.services.executor import LABEL_ENGINE_NAME, SECRETS_TARGET

LABEL_DIRECTORY: Final = "rnd.directory"
"""The job's folder: with the engine name it tells our container from that of another peer on the same machine."""

DEFAULT_MEMORY_BYTES: Final = 4 << 30
DEFAULT_PIDS: Final = 256
DEFAULT_OPEN_FILES: Final = 1024
PODMAN_NPROC: Final = 1 << 15
SHARED_MEMORY_BYTES: Final = 64 << 20
ENGINE_LOG_BYTES: Final = 16 << 20
"""What the engine keeps of a container's output, twice at most: enough to go on after we were killed (ADR 13)."""
VOLUME_BYTES: Final = 64 << 20
"""Where an image declares a volume that the job does not mount, it gets memory instead of a folder without bound."""

NETWORKS: Final = frozenset({"none", "bridge"})
FORBIDDEN_TARGETS: Final = ("/proc", "/sys", "/dev")

IMAGE_ID: Final = re.compile(r"sha256:[0-9a-f]{64}")
CONTAINER_NAME: Final = re.compile(r"job-[0-9A-Za-z_.-]{1,200}")
ENGINE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,159}")
USER: Final = re.compile(USER_PATTERN)
"""The user and the group of a container, by their numbers."""
LABEL: Final = re.compile(r"rnd\.[a-z_]{1,40}")
SECRET_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
ENV_NAME: Final = re.compile(r"[^=\0]+")


class BadOrder(ValueError):
    """An order asks for what no container of ours may have, or makes no sense; the text says which."""


class MountOrder(NamedTuple):
    """A folder below the job's own that the container sees at `target`."""

    source: str
    target: str
    writable: bool


class Bounds(NamedTuple):
    """The limits of one run; `None` means the default here, or no limit for `disk_bytes`."""

    cpus: float | None
    memory_bytes: int | None
    pids: int | None
    disk_bytes: int | None
    open_files: int | None
    gpus: int | None

    @property
    def memory(self) -> int:
        """How much memory the container has, in bytes; there is always a limit."""
        return self.memory_bytes or DEFAULT_MEMORY_BYTES


class ContainerOrder(NamedTuple):
    """One run in a container, as far as the engine is concerned; every field has been checked."""

    engine_name: str
    directory: str
    name: str
    image_id: str
    entrypoint: tuple[str, ...] | None
    cmd: tuple[str, ...] | None
    env: Mapping[str, str]
    mounts: tuple[MountOrder, ...]
    network: str
    user: str
    read_only_root: bool
    tmpfs_bytes: int
    cap_add: tuple[str, ...]
    labels: Mapping[str, str]
    stdin_files: tuple[str, ...]
    bounds: Bounds
    stream_bytes: int
    grace_s: float
    secret_names: tuple[str, ...]


class Surroundings(NamedTuple):
    """What an order does not decide: the user it falls back to, this machine and its engine, the image's volumes, where its
    secrets lie.
    """

    user: str
    cpus: int
    image_volumes: tuple[str, ...] = ()
    secrets_directory: str = ""
    is_podman: bool = False


def order_from_message(message: Mapping[str, Any]) -> ContainerOrder:
    """Read an order. Raises `BadOrder` for anything that is not exactly what a container of ours may have."""
    try:
        order = _read(message)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, BadOrder):
            raise
        raise BadOrder(f"the order of a container makes no sense: {error!r}") from error
    _check(order)
    return order


def create_body(order: ContainerOrder, around: Surroundings) -> dict[str, Any]:
    """Return the body of the engine's create call. Every key that it may ever have is in this function and the next."""
    env = {"HOME": SCRATCH, **order.env}
    if around.secrets_directory:
        env["RND_SECRETS"] = SECRETS_TARGET
    body: dict[str, Any] = {
        "Image": order.image_id,
        "User": order.user or around.user,
        "Env": [f"{name}={value}" for name, value in env.items()],
        "Labels": {**order.labels, LABEL_ENGINE_NAME: order.engine_name, LABEL_DIRECTORY: order.directory},
        "Tty": False,
        "AttachStdin": False,
        "AttachStdout": True,
        "AttachStderr": True,
        "OpenStdin": bool(order.stdin_files),
        "StdinOnce": bool(order.stdin_files),
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": _host_config(order, around),
    }
    if order.entrypoint is not None:
        body["Entrypoint"] = list(order.entrypoint)
    if order.cmd is not None:
        body["Cmd"] = list(order.cmd)
    return body


def _host_config(order: ContainerOrder, around: Surroundings) -> dict[str, Any]:
    bounds = order.bounds
    open_files = bounds.open_files or DEFAULT_OPEN_FILES
    config: dict[str, Any] = {
        "NetworkMode": order.network,
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "Init": True,
        "Privileged": False,
        "CapDrop": ["ALL"],
        "CapAdd": sorted(set(order.cap_add)),
        "SecurityOpt": ["no-new-privileges"],
        "ReadonlyRootfs": order.read_only_root,
        "Mounts": _mounts(order, around),
        "ShmSize": SHARED_MEMORY_BYTES,
        "Memory": bounds.memory,
        "MemorySwap": bounds.memory,
        "PidsLimit": bounds.pids or DEFAULT_PIDS,
        "Ulimits": [
            {"Name": "nofile", "Soft": open_files, "Hard": open_files},
            {"Name": "core", "Soft": 0, "Hard": 0},
        ],
        "LogConfig": _podman_log() if around.is_podman else _docker_log(),
        "RestartPolicy": {"Name": "no"},
        "AutoRemove": False,
    }
    if around.is_podman:  # which would raise it as far as the kernel goes, and may not everywhere
        config["Ulimits"].append({"Name": "nproc", "Soft": PODMAN_NPROC, "Hard": PODMAN_NPROC})
    if bounds.cpus is not None:
        config["NanoCpus"] = int(min(bounds.cpus, around.cpus) * 1_000_000_000)
    if order.tmpfs_bytes and SCRATCH not in (mount.target for mount in order.mounts):
        config["Tmpfs"] = {SCRATCH: _temporary(order, around)}
    if bounds.gpus:
        config["DeviceRequests"] = [{"Driver": "", "Count": bounds.gpus, "Capabilities": [["gpu"]]}]
    return config


def _docker_log() -> dict[str, Any]:
    return {"Type": "local", "Config": {"max-size": str(ENGINE_LOG_BYTES), "max-file": "2", "compress": "false"}}


def _podman_log() -> dict[str, Any]:
    return {"Type": "k8s-file", "Config": {"max-size": str(2 * ENGINE_LOG_BYTES)}}


def _temporary(order: ContainerOrder, around: Surroundings) -> str:
    """Return the options of /tmp. With exec: programs unpack libraries there, and /output is executable as well.

    Its user owns it, since for docker the mode that counts is the one that the folder has in the image; podman knows no owner.
    """
    options = f"rw,nosuid,nodev,exec,size={order.tmpfs_bytes},mode=1777"
    if around.is_podman:
        return options
    owner = USER.fullmatch(order.user or around.user)
    return options if owner is None else f"{options},uid={owner[1]},gid={owner[2] or 0}"


def _mounts(order: ContainerOrder, around: Surroundings) -> list[dict[str, Any]]:
    mounts = [_bind(mount.source, mount.target, writable=mount.writable) for mount in order.mounts]
    taken = {mount.target for mount in order.mounts}
    if around.secrets_directory:
        mounts.append(_bind(around.secrets_directory, SECRETS_TARGET, writable=False))
        taken.add(SECRETS_TARGET)
    if order.tmpfs_bytes:
        taken.add(SCRATCH)
    return mounts + [_memory(volume) for volume in sorted(_as_engines_read(around.image_volumes) - taken)]


def _as_engines_read(volumes: Collection[str]) -> set[str]:
    """Return where an image declares volumes: `/data/` and `/x/../data` are `/data`. No engine takes the root for one."""
    return {posixpath.normpath("/" + volume.lstrip("/")) for volume in volumes} - {"/"}


def _bind(source: str, target: str, *, writable: bool) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": source,
        "Target": target,
        "ReadOnly": not writable,
        "BindOptions": {"Propagation": "rprivate"},
    }


def _memory(target: str) -> dict[str, Any]:
    """Return a folder in memory, which the engine mounts nosuid, nodev and noexec."""
    return {"Type": "tmpfs", "Target": target, "TmpfsOptions": {"SizeBytes": VOLUME_BYTES, "Mode": 0o1777}}


def _read(message: Mapping[str, Any]) -> ContainerOrder:
    limits = message["limits"]
    return ContainerOrder(
        engine_name=_matching(ENGINE_NAME, message["engine_name"], "engine_name"),
        directory=_absolute(message["directory"], "the job's folder"),
        name=_matching(CONTAINER_NAME, message["name"], "the name of the container"),
        image_id=_matching(IMAGE_ID, message["image_id"], "the id of the image"),
        entrypoint=_words(message["entrypoint"], "the entrypoint"),
        cmd=_words(message["cmd"], "the command"),
        env={_matching(ENV_NAME, name, "env"): _text(value, "env") for name, value in message["env"].items()},
        mounts=tuple(_mount(fields) for fields in message["mounts"]),
        network=_one_of(NETWORKS, message["network"], "network"),
        user=_matching(USER, message["user"], "user") if message["user"] else "",
        read_only_root=_truth(message["read_only_root"], "read_only_root"),
        tmpfs_bytes=_count(message["tmpfs_bytes"], "tmpfs_bytes", least=0, most=TMPFS_MAX_BYTES),
        cap_add=tuple(_capability(name) for name in message["cap_add"]),
        labels={_matching(LABEL, name, "label"): _text(value, "label") for name, value in message["labels"].items()},
        stdin_files=tuple(_absolute(path, "an input file") for path in message["stdin_files"]),
        bounds=Bounds(
            cpus=_share(limits["cpus"]),
            memory_bytes=_bound(limits["memory_bytes"], "memory_bytes", least=6 << 20),
            pids=_bound(limits["pids"], "pids"),
            disk_bytes=_bound(limits["disk_bytes"], "disk_bytes"),
            open_files=_bound(limits["open_files"], "open_files", most=1 << 20),
            gpus=_bound(limits["gpus"], "gpus", least=0, most=64),
        ),
        stream_bytes=_count(message["stream_bytes"], "stream_bytes", least=0),
        grace_s=_seconds(message["grace_s"]),
        secret_names=tuple(_matching(SECRET_NAME, name, "a secret's name") for name in message["secrets"]),
    )


def _check(order: ContainerOrder) -> None:
    """Check what no field shows alone. Raises `BadOrder`."""
    if order.entrypoint == ():
        raise BadOrder("an entrypoint is never empty")
    targets = [mount.target for mount in order.mounts]
    if order.secret_names:
        targets.append(SECRETS_TARGET)
    for number, target in enumerate(targets):
        for other in targets[:number]:
            if _is_within(target, other) or _is_within(other, target):
                raise BadOrder(f"the mounts {other} and {target} lie in each other")
    for mount in order.mounts:
        if mount.source == order.directory or not _is_within(mount.source, order.directory):
            raise BadOrder(f"{mount.source} is no folder of the job's own")


def _mount(fields: Mapping[str, Any]) -> MountOrder:
    target = _absolute(fields["target"], "a mount")
    if target == "/" or any(_is_within(target, forbidden) for forbidden in FORBIDDEN_TARGETS):
        raise BadOrder(f"nothing can be mounted at {target}")
    return MountOrder(
        _absolute(fields["source"], "the source of a mount"), target, _truth(fields["writable"], "writable")
    )


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _absolute(value: object, what: str) -> str:
    text = _text(value, what)
    if not text.startswith("/") or text.startswith("//") or posixpath.normpath(text) != text:
        raise BadOrder(f"{what} must be an absolute path without '.', '..' and double slashes: {text!r}")
    return text


def _matching(pattern: re.Pattern[str], value: object, what: str) -> str:
    text = _text(value, what)
    if not pattern.fullmatch(text):
        raise BadOrder(f"{what} cannot be {text[:100]!r}")
    return text


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise BadOrder(f"{what} must be text without NUL")
    return value


def _words(value: object, what: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        raise BadOrder(f"{what} must be a list")
    return tuple(_text(word, what) for word in value)


def _one_of(words: Collection[str], value: object, what: str) -> str:
    if not isinstance(value, str) or value not in words:
        raise BadOrder(f"{what} must be one of {', '.join(sorted(words))}")
    return value


def _capability(value: object) -> str:
    return _one_of(CAPABILITIES, value.removeprefix("CAP_") if isinstance(value, str) else value, "cap_add")


def _truth(value: object, what: str) -> bool:
    if not isinstance(value, bool):
        raise BadOrder(f"{what} must be true or false")
    return value


def _count(value: object, what: str, *, least: int = 1, most: int = 1 << 60) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise BadOrder(f"{what} must be a whole number from {least} to {most}")
    return value


def _bound(value: object, what: str, *, least: int = 1, most: int = 1 << 60) -> int | None:
    return None if value is None else _count(value, what, least=least, most=most)


def _share(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0.01 <= value <= 4096:
        raise BadOrder("cpus must be a number from 0.01 to 4096")
    return float(value)


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 86_400:
        raise BadOrder("grace_s must be a number of seconds up to a day")
    return float(value)
