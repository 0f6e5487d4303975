"""Enumerations whose values are exactly the words of the CHECK lists in schema.sql."""

from __future__ import annotations

from enum import StrEnum


class ServiceType(StrEnum):
    """What kind of work a service is (document: Node Types)."""

    DATA = "DATA"
    DOCKER = "DOCKER"
    STANDALONE = "STANDALONE"


class ServiceStatus(StrEnum):
    """Whether a service takes orders."""

    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"


class ServiceAccess(StrEnum):
    """Who may order a service: every allowed peer, or only peers that hold a grant."""

    ALLOWED = "allowed"
    GRANTED = "granted"


class InterfaceType(StrEnum):
    """The five ways in and out of a job (document: Interface Types)."""

    STDIN = "STDIN"
    STDOUT = "STDOUT"
    STDERR = "STDERR"
    LOGS = "LOGS"
    MOUNT = "MOUNT"


class MountFunction(StrEnum):
    """On a service interface: what the job does. On an interface peer: what the *peer* does (never BOTH there)."""

    INPUT = "INPUT"
    OUTPUT = "OUTPUT"
    BOTH = "BOTH"


class ExecutionConstraint(StrEnum):
    """When a started job may run: at once, or when every input is whole."""

    NONE = "NONE"
    INPUTS_READY = "INPUTS_READY"


class JobStatus(StrEnum):
    """Life of a job execution: IDLE -> READY -> RUNNING -> COMPLETED | ERRORED | CANCELLED."""

    IDLE = "IDLE"
    READY = "READY"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    ERRORED = "ERRORED"
    CANCELLED = "CANCELLED"


class WorkflowJobStatus(StrEnum):
    """A job as its orchestrator sees it: the job words, and PENDING before the job exists on its executor."""

    PENDING = "PENDING"
    IDLE = "IDLE"
    READY = "READY"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    ERRORED = "ERRORED"
    CANCELLED = "CANCELLED"


class ExecutionStatus(StrEnum):
    """Life of a workflow execution."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class ExecutionPhase(StrEnum):
    """How far the two-phase start of an execution got; a restarted daemon goes on from here."""

    CREATING = "CREATING"
    STARTING = "STARTING"
    STARTED = "STARTED"


class TransferDirection(StrEnum):
    """LOCAL: both ends on this peer. The other two are seen from this peer."""

    LOCAL = "LOCAL"
    OUTGOING = "OUTGOING"
    INCOMING = "INCOMING"


class TransferStatus(StrEnum):
    """Life of one delivery along one connection."""

    PENDING = "PENDING"
    ACTIVE = "ACTIVE"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class Egress(StrEnum):
    """Where the owner lets DATA go: any job, jobs on listed peers, or only jobs on this peer."""

    ANY_JOB = "any_job"
    LISTED = "listed"
    HERE_ONLY = "here_only"


class Confine(StrEnum):
    """Whether a native program runs confined: by who orders it, always, or never (the owner takes the risk)."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class PeerState(StrEnum):
    """What this peer's owner thinks of another peer: knows it, lets it in, or keeps it out whatever else says so."""

    PENDING = "pending"
    ALLOWED = "allowed"
    DENIED = "denied"


class Verb(StrEnum):
    """What a peer may do with a service: see it, order jobs of it, have its DATA sent to the ordering self-peer."""

    DISCOVER = "discover"
    ORDER = "order"
    FETCH = "fetch"


class Scope(StrEnum):
    """What an API token may do; each contains the one before."""

    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"


class TlsGate(StrEnum):
    """Who gets through TLS to this peer: any peer, to be told by name that it is not admitted, or only known ones."""

    OPEN = "open"
    PINNED = "pinned"


class SecretPurpose(StrEnum):
    """What a sealed secret is for: a data key of one execution, one that its owner unlocked, a secret of a service, who asks a
    registry for its image.
    """

    EXECUTION_DATA_KEY = "execution_data_key"
    UNLOCKED_DATA_KEY = "unlocked_data_key"
    SERVICE_SECRET = "service_secret"
    REGISTRY_AUTH = "registry_auth"


class EventType(StrEnum):
    """Kinds of events that clients can subscribe to."""

    EXECUTION_UPDATED = "execution.updated"
    JOB_UPDATED = "job.updated"
    TRANSFER_PROGRESS = "transfer.progress"
    PEER_UPDATED = "peer.updated"
    SERVICE_UPDATED = "service.updated"
    WORKFLOW_UPDATED = "workflow.updated"
    IMAGE_PROGRESS = "image.progress"


class DataCodec(StrEnum):
    """How the bytes of a delivery are sent to another peer."""

    BINARY = "binary"
    BASE64 = "base64"


class LogFormat(StrEnum):
    """How the daemon's log lines are written."""

    TEXT = "text"
    JSON = "json"


class LogStream(StrEnum):
    """The streams that are captured for every DOCKER and STANDALONE job."""

    STDOUT = "stdout"
    STDERR = "stderr"
    LOGS = "logs"
