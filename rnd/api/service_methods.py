"""The methods about offered services, as rows of the method table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rnd.api import handlers_search as search
from rnd.api import handlers_services as services
from rnd.api import result_schemas as answers
from rnd.api.drawing_parameters import INTERFACES
from rnd.api.methods import Method
from rnd.api.parameters import (
    ENV_KEY_PATTERN,
    ENV_KEY_WORDS,
    ID,
    MAX_PATH_BYTES,
    Boolean,
    Choice,
    HostPath,
    Integer,
    ListOf,
    MapOf,
    Name,
    Nullable,
    Number,
    OneOf,
    Parameter,
    Record,
    Text,
    optional,
    required,
)
from rnd.api.result_schemas import members
from rnd.api.workflow_methods import DESCRIPTION, PASSPHRASE, PEER_ID, WORDS
from rnd.rules.containers import CAPABILITIES, IMAGE_NAME_MAX
from rnd.rules.upload_names import UPLOAD_NAME_PATTERN, UPLOAD_NAME_WORDS, UPLOAD_PREFIX
from rnd.services.images import RegistryAuth
from rnd.types.enums import Confine, Egress, Scope, ServiceAccess, ServiceStatus, ServiceType
from rnd.types.services import HostPath as OpenedPath
from rnd.types.services import ResourceLimits, RetryPolicy

MAX_PATHS: Final = 1_000
DAY_S: Final = 86_400.0
MAX_QUERY_CHARS: Final = 256
"""As many as one peer may ask another for."""
MAX_OFFSET: Final = 1_000_000
SECRET_NAME_PATTERN: Final = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}"
MAX_SECRET_CHARS: Final = 64 << 10

_SERVICE: Final = required("service_id", ID)

_COMMON: Final = (
    optional("description", DESCRIPTION),
    optional("interfaces", INTERFACES, summary="Left out: the defaults of the type."),
    optional("pricing_amount", Number(minimum=0)),
    optional("pricing_type", Name(max_chars=50)),
    optional("access", Choice(ServiceAccess), summary="granted: only peers with a grant."),
    optional("retry_safe", Boolean(), summary="Running it twice does no harm."),
    optional(
        "retry",
        Record(
            members=(
                optional("attempts", Integer(minimum=1, maximum=100), 1),
                optional("backoff_s", Number(minimum=0, maximum=DAY_S), 0.0),
            ),
            build=RetryPolicy,
        ),
        summary="Needs retry_safe.",
    ),
)
_DATA: Final = (
    optional("egress", Choice(Egress), summary="DATA: where its owner lets it go."),
    optional("egress_peers", ListOf(items=PEER_ID, max_items=1_000), summary="DATA: the peers of egress listed."),
    optional("downloadable", Boolean(), summary="DATA: may an orchestrator download it."),
    optional("seal", Boolean(), summary="DATA: seal every chunk on its way."),
)
_STANDALONE: Final = (
    optional("executable", HostPath(), summary="STANDALONE: absolute path of the program."),
    optional(
        "cmd",
        Nullable(WORDS),
        summary="STANDALONE, DOCKER: arguments; DOCKER: null, as left out, for the image's own.",
        aliases=("commands",),
    ),
    optional(
        "env",
        MapOf(values=Text(max_chars=32 << 10), key_pattern=ENV_KEY_PATTERN, key_words=ENV_KEY_WORDS, max_items=1_000),
        summary="STANDALONE, DOCKER: environment beside a clean one.",
    ),
    optional("working_directory", HostPath(), summary="STANDALONE: left out, the job's output folder."),
    optional(
        "limits",
        Record(
            members=(
                optional("cpus", Nullable(Number(minimum=0.01, maximum=4_096))),
                optional("memory_bytes", Nullable(Integer(minimum=1 << 20, maximum=1 << 50))),
                optional("pids", Nullable(Integer(minimum=1, maximum=4_194_304))),
                optional(
                    "disk_bytes",
                    Nullable(Integer(minimum=1, maximum=1 << 50)),
                    summary="What it may add to its job's folder, captured streams included.",
                ),
                optional("open_files", Nullable(Integer(minimum=16, maximum=1 << 20))),
                optional("gpus", Nullable(Integer(minimum=0, maximum=1_024))),
            ),
            build=ResourceLimits,
        ),
        summary="STANDALONE, DOCKER: bounds on one run.",
    ),
    optional(
        "timeout_s",
        Nullable(Number(minimum=0.01, maximum=366 * DAY_S)),
        summary="STANDALONE, DOCKER: of one run; the time in which an image is pulled does not count.",
    ),
    optional(
        "allow_override",
        Boolean(),
        summary="Other peers may replace the arguments; DOCKER: and what is executed in the container.",
    ),
    optional("confine", Choice(Confine), summary="STANDALONE: auto confines other peers' orders."),
    optional(
        "host_paths",
        ListOf(
            items=Record(
                members=(required("path", HostPath()), optional("writable", Boolean(), False)), build=OpenedPath
            ),
            max_items=100,
        ),
        summary="STANDALONE: what a confined program may see of the host beside the system.",
    ),
    optional(
        "network",
        OneOf(words=("none", "host", "bridge")),
        summary="STANDALONE: none or host; DOCKER: none (default) or bridge.",
    ),
    optional(
        "min_sandbox",
        OneOf(words=("none", "landlock", "bubblewrap")),
        summary="STANDALONE: refuse orders where this tier is not in force.",
    ),
    optional(
        "secrets",
        MapOf(
            values=Nullable(Text(max_chars=MAX_SECRET_CHARS)),
            key_pattern=SECRET_NAME_PATTERN,
            key_words=f"must be {UPLOAD_NAME_WORDS}",
            max_items=100,
        ),
        summary="Write-only, given to the job as files; null removes one (service.update).",
    ),
)
_DOCKER: Final = (
    optional(
        "image",
        Text(min_chars=1, max_chars=IMAGE_NAME_MAX),
        summary="DOCKER: name, digest or id; looked for on this machine, else pulled. It is pinned by what it means now.",
    ),
    optional(
        "build_context",
        HostPath(),
        summary="DOCKER: a folder of this host with a Dockerfile, built without network; image is what it is called then.",
    ),
    optional("entrypoint", Nullable(WORDS), summary="DOCKER: null, as left out, for the image's own."),
    optional(
        "registry_auth",
        Nullable(
            Record(
                members=(required("username", Text(min_chars=1)), required("password", Text(min_chars=1))),
                build=RegistryAuth,
            )
        ),
        summary="DOCKER: write-only, kept sealed for the registry of image; null forgets it (service.update).",
    ),
    optional(
        "user",
        Text(max_chars=30),
        summary="DOCKER: number of a user, or user:group; left out or empty, the daemon's own, nobody where that is root.",
    ),
    optional("read_only_root", Boolean(), summary="DOCKER: default true; /output, /tmp and MOUNTs can be written."),
    optional("tmpfs_bytes", Integer(minimum=0, maximum=1 << 50), summary="DOCKER: size of /tmp; 0 for none."),
    optional(
        "cap_add",
        ListOf(items=Name(), max_items=50),
        summary=f"DOCKER: capabilities to give back, of {', '.join(CAPABILITIES)}.",
    ),
)


def service_methods(page: Sequence[Parameter]) -> Iterable[Method]:
    """Return the methods about services; `page` are the parameters of a list method."""
    yield from _owner_methods()
    yield from _reading_methods(page)


def _owner_methods() -> Iterable[Method]:
    yield Method(
        name="service.create",
        summary="Offer a service. DATA: paths are copied into a snapshot with a hash for every file.",
        scope=Scope.ADMIN,
        handler=services.service_create,
        parameters=(
            required("name", Name()),
            required("service_type", Choice(ServiceType)),
            *_COMMON,
            optional(
                "paths",
                ListOf(
                    items=Text(
                        min_chars=1,
                        max_chars=MAX_PATH_BYTES,
                        pattern=f"(?s:/.*)|{UPLOAD_PREFIX}{UPLOAD_NAME_PATTERN}",
                        words="must be an absolute path, or upload:NAME for a file that was sent by PUT /upload/NAME",
                    ),
                    min_items=1,
                    max_items=MAX_PATHS,
                ),
                summary="DATA: files or folders of this host, or upload:NAME.",
            ),
            optional("passphrase", PASSPHRASE, summary="DATA: encrypts at rest."),
            *_DATA,
            *_STANDALONE,
            *_DOCKER,
        ),
        result=answers.SERVICE,
        timeout_s=None,  # ingesting DATA takes as long as its bytes do
    )
    yield Method(
        name="service.update",
        summary="Change what is given of a service; the files of DATA stay, others are a new service.",
        scope=Scope.ADMIN,
        handler=services.service_update,
        explain_unknown=services.explain_unknown,
        parameters=(_SERVICE, optional("name", Name()), *_COMMON, *_DATA, *_STANDALONE, *_DOCKER),
        result=answers.SERVICE,
        timeout_s=None,  # an image may be pulled, which has a bound of its own
    )
    yield Method(
        name="service.delete",
        summary=(
            "Stop offering a service and delete its snapshot; refused while a job uses it. Workflows that name it stay, "
            "and cannot be executed any more: they are in the answer."
        ),
        scope=Scope.ADMIN,
        handler=services.service_delete,
        parameters=(_SERVICE,),
        result=members(
            {
                "deleted": answers.FLAG,
                "workflows": answers.list_of(members({"workflow_id": answers.INTEGER, "name": answers.TEXT})),
            }
        ),
        timeout_s=None,  # deleting many files takes as long as it does
    )
    yield Method(
        name="service.set_status",
        summary="ACTIVE takes orders; INACTIVE refuses new ones and lets running jobs end.",
        scope=Scope.ADMIN,
        handler=services.service_set_status,
        parameters=(_SERVICE, required("status", Choice(ServiceStatus))),
        result=answers.SERVICE,
    )
    yield Method(
        name="service.unlock",
        summary="Open encrypted DATA for other peers' orders, for a while.",
        scope=Scope.ADMIN,
        handler=services.service_unlock,
        parameters=(_SERVICE, required("passphrase", PASSPHRASE)),
        result=members({"unlocked_until": answers.TIME}),
    )


def _reading_methods(page: Sequence[Parameter]) -> Iterable[Method]:
    yield Method(
        name="service.get",
        summary="Return one service.",
        scope=Scope.READ,
        handler=services.service_get,
        parameters=(_SERVICE,),
        result=answers.SERVICE,
    )
    yield Method(
        name="service.list",
        summary="List this peer's services, oldest first.",
        scope=Scope.READ,
        handler=services.service_list,
        parameters=(optional("service_type", Choice(ServiceType)), optional("status", Choice(ServiceStatus)), *page),
        result=answers.page_of(answers.SERVICE),
    )
    yield Method(
        name="service.suggest_interfaces",
        summary=(
            "Return the interfaces that a service of this type usually has; for an image that is on this machine, with a "
            "MOUNT for each of its volumes and for its working directory."
        ),
        scope=Scope.READ,
        handler=services.service_suggest_interfaces,
        parameters=(required("service_type", Choice(ServiceType)), optional("image", Text(min_chars=1, max_chars=500))),
        result=answers.list_of(answers.INTERFACE),
    )
    yield Method(
        name="service.search",
        summary="Find services by words of their name or description, here and on connected allowed peers.",
        scope=Scope.READ,
        handler=search.service_search,
        parameters=(
            optional("query", Text(max_chars=MAX_QUERY_CHARS), ""),
            optional("service_type", Choice(ServiceType)),
            optional("peer_ids", ListOf(items=PEER_ID, max_items=1_000)),
            optional("active_only", Boolean(), True),
            optional("timeout_s", Number(minimum=0.1, maximum=25), 15.0),
            optional("limit", Integer(minimum=1, maximum=1_000), 1_000, "How many items at most."),
            optional("offset", Integer(minimum=0, maximum=MAX_OFFSET), 0, "`next_offset` of the page before."),
        ),
        result=members(
            {
                "items": answers.list_of(answers.OFFER),
                "unreachable": answers.list_of(members({"peer_id": answers.TEXT, "reason": answers.TEXT})),
                "total": answers.COUNT,
                "next_offset": answers.nullable(answers.COUNT),
            }
        ),
    )
