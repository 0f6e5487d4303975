"""Services that a peer offers (table `offered_services`; document: Node Types)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from rnd.types.enums import Confine, Egress, InterfaceType, MountFunction, ServiceAccess, ServiceStatus, ServiceType
from rnd.types.ids import PeerId, ServiceId


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceInterface:
    """One declared way in or out of a service.

    `path` is absolute for a MOUNT (`/input`) and empty for the four streams; `mount_function` is set for a MOUNT only
    and says what the job does with it.
    """

    interface_type: InterfaceType
    path: str = ""
    mount_function: MountFunction | None = None
    required: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceLimits:
    """Bounds on one run of a program; `None` leaves the bound to the daemon's defaults."""

    cpus: float | None = None
    memory_bytes: int | None = None
    pids: int | None = None
    disk_bytes: int | None = None
    open_files: int | None = None
    gpus: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPath:
    """A path of the host that the owner opens to a confined program."""

    path: str
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """What confines native programs on this machine: the tier in force, or "none" and why there is none."""

    tier: str = "none"
    reason: str = "nobody has looked whether it is possible"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a failed run is tried again; only for services that are marked `retry_safe`."""

    attempts: int = 1
    backoff_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """What a DATA service holds and where its owner lets it go. Sizes in bytes, hashes in hexadecimal."""

    file_count: int
    size_bytes: int
    manifest_sha256: str
    encrypted: bool = False
    egress: Egress = Egress.ANY_JOB
    egress_peers: tuple[PeerId, ...] = ()
    downloadable: bool = True
    seal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StandaloneSettings:
    """How a native program is run. `working_directory` empty means the job's `output/` folder."""

    executable: str
    cmd: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    working_directory: str = ""
    limits: ResourceLimits = ResourceLimits()
    timeout_s: float | None = None
    allow_override: bool = False
    confine: Confine = Confine.AUTO
    host_paths: tuple[HostPath, ...] = ()
    network: str = ""
    min_sandbox: str = ""
    secret_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerSettings:
    """How a container is run. `entrypoint` and `cmd` are `None` where the image's own count.

    `image` is the name that the owner gave; `image_id` (`sha256:...`, of the image's configuration) is what that name
    meant when the service was created, and the only image that its jobs run. `digest` (`name@sha256:...`) is what a
    registry gives that very image for, "" where it comes from none: an image of that kind that is gone cannot be had again.
    `user` empty means the daemon's own user, nobody where that is root; `network` is `none` or `bridge`.
    """

    image: str
    image_id: str
    digest: str = ""
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    limits: ResourceLimits = ResourceLimits()
    network: str = "none"
    timeout_s: float | None = None
    allow_override: bool = False
    user: str = ""
    read_only_root: bool = True
    tmpfs_bytes: int = 64 << 20
    cap_add: tuple[str, ...] = ()
    secret_names: tuple[str, ...] = ()


ServiceSettings = DataSettings | StandaloneSettings | DockerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A row of `offered_services`.

    `service_path` is what the document calls ServicePath: the folder of a DATA snapshot below `services/`, or the
    executable of a STANDALONE service. `revision` grows with every change that could alter a result.
    """

    id: ServiceId
    name: str
    description: str
    service_type: ServiceType
    status: ServiceStatus
    interfaces: tuple[ServiceInterface, ...]
    pricing_amount: float
    pricing_type: str
    access: ServiceAccess
    retry_safe: bool
    retry: RetryPolicy
    revision: int
    service_path: str
    settings: ServiceSettings
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteService:
    """A service of another peer, as far as a workflow takes over what it is."""

    id: ServiceId
    name: str
    service_type: ServiceType
    interfaces: tuple[ServiceInterface, ...]
    pricing_amount: float
    pricing_type: str
    revision: int
