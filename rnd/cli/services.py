"""Commands about what the peer offers: service add, suggest, list, show, rm, set-status, unlock; and upload."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Final

from rnd.cli import lookup, words
from rnd.cli.failures import OK, CommandFailed, usage
from rnd.cli.session import Session, read_passphrase, read_secret
from rnd.cli.terminal import now

# Taking in a snapshot hashes and copies everything; a day is for the largest.
INGEST_WAIT_S: Final = 24 * 3600.0
UPLOAD_PREFIX: Final = "upload:"
NAMED_MAX: Final = 5
"""How many workflows a remark names."""
MOUNT_FUNCTIONS: Final = ("INPUT", "OUTPUT", "BOTH")


def add_data(session: Session) -> int:
    """Offer files and folders."""
    arguments = session.arguments
    passphrase = read_passphrase(session)
    if arguments.upload:
        paths = [UPLOAD_PREFIX + str(_upload(session, Path(path), None)["name"]) for path in arguments.paths]
    else:
        paths = [_host_path(session, path) for path in arguments.paths]
    service = session.call(
        "service.create",
        patience_s=INGEST_WAIT_S,
        service_type="DATA",
        name=arguments.name,
        description=arguments.description,
        access=arguments.access,
        paths=paths,
        passphrase=passphrase,
        egress=arguments.egress,
        egress_peers=[lookup.peer_id(session, given) for given in arguments.egress_peer] or None,
        downloadable=False if arguments.no_download else None,
        seal=True if arguments.seal else None,
    )
    return _say_added(session, service)


def add_standalone(session: Session) -> int:
    """Offer a program."""
    arguments = session.arguments
    service = session.call(
        "service.create",
        service_type="STANDALONE",
        executable=_executable(session, arguments.executable),
        working_directory=_host_path(session, arguments.working_directory) if arguments.working_directory else None,
        confine=arguments.confine,
        host_paths=[_opened(session, text) for text in arguments.host_path] or None,
        **_program(session, {}),
    )
    return _say_added(session, service)


def add_docker(session: Session) -> int:
    """Offer a container."""
    arguments = session.arguments
    if arguments.image is None and arguments.build is None:
        raise usage("which image?", hint="Name one, or give --build DIR.")
    auth = None
    if arguments.registry_user or arguments.registry_password_file:
        if not arguments.registry_user or not arguments.registry_password_file:
            raise usage("--registry-user and --registry-password-file belong together")
        password = read_secret(Path(arguments.registry_password_file))
        auth = {"username": arguments.registry_user, "password": password}
    service = session.call(
        "service.create",
        patience_s=INGEST_WAIT_S,
        service_type="DOCKER",
        image=arguments.image,
        build_context=_host_path(session, arguments.build) if arguments.build else None,
        entrypoint=arguments.entrypoint or None,
        user=arguments.user,
        read_only_root=False if arguments.writable_root else None,
        tmpfs_bytes=arguments.tmpfs,
        cap_add=arguments.cap_add or None,
        registry_auth=auth,
        **_program(session, {"gpus": arguments.gpus}),
    )
    return _say_added(session, service)


def _program(session: Session, more_limits: dict[str, Any]) -> dict[str, Any]:
    """Return what a native program and a container are both offered with."""
    arguments = session.arguments
    limits = {
        "cpus": arguments.cpus,
        "memory_bytes": arguments.memory,
        "disk_bytes": arguments.disk,
        "pids": arguments.pids,
        **more_limits,
    }
    retry = None
    if arguments.attempts is not None:
        retry = {"attempts": arguments.attempts, "backoff_s": arguments.backoff or 0.0}
    elif arguments.backoff is not None:
        raise usage("--backoff needs --attempts")
    return {
        "name": arguments.name,
        "description": arguments.description,
        "access": arguments.access,
        "cmd": [*arguments.arg, *arguments.args] or None,
        "interfaces": [_mount(text) for text in arguments.mount] or None,
        "env": _pairs("--env", arguments.env) or None,
        "secrets": {name: read_secret(Path(file)) for name, file in _pairs("--secret", arguments.secret).items()}
        or None,
        "timeout_s": arguments.timeout,
        "limits": {name: bound for name, bound in limits.items() if bound is not None} or None,
        "network": arguments.network,
        "allow_override": True if arguments.allow_override else None,
        "retry_safe": True if retry is not None and retry["attempts"] > 1 else None,
        "retry": retry,
    }


def suggest(session: Session) -> int:
    """Say which mounts an image suggests, as options of `rnd service add docker`."""
    terminal = session.terminal
    found = session.call("service.suggest_interfaces", service_type="DOCKER", image=session.arguments.image)
    if terminal.as_json:
        terminal.data({"items": found})
        return OK
    mounts = [item for item in found if item["interface_type"] == "MOUNT"]
    for mount in mounts:
        option = words.safe(f"--mount {mount['path']}:{mount['mount_function']}")
        terminal.line(option if terminal.quiet else f"{option}   {words.safe(mount['description'])}")
    if not mounts:
        terminal.note("the image suggests no mounts; it has the four streams, as every container")
    return OK


def _host_path(session: Session, path: str) -> str:
    """Return a path as the daemon understands it: absolute, since it stands elsewhere; a remote one as it is."""
    if path.startswith(UPLOAD_PREFIX) or session.is_remote:
        return path
    return str(Path(os.path.expanduser(path)).absolute())


def _executable(session: Session, given: str) -> str:
    if "/" not in given and not session.is_remote:
        found = shutil.which(given)
        if found is None:
            raise CommandFailed(f"there is no program {given!r} in PATH", hint="Give its path, such as ./program.")
        return str(Path(found).absolute())
    return _host_path(session, given)


def _mount(text: str) -> dict[str, Any]:
    path, _, rest = text.partition(":")
    function, _, more = rest.partition(":")
    if not path.startswith("/") or function.upper() not in MOUNT_FUNCTIONS or more not in {"", "required"}:
        raise usage(f"--mount {text}: cannot be understood", hint="Write /input:INPUT, /output:OUTPUT or /work:BOTH.")
    mount = {"interface_type": "MOUNT", "path": path, "mount_function": function.upper()}
    return mount | ({"required": True} if more else {})


def _opened(session: Session, text: str) -> dict[str, Any]:
    path = text.removesuffix(":rw")
    return {"path": _host_path(session, path), "writable": path != text}


def _pairs(option: str, texts: list[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise usage(f"{option} {text}: must be NAME=VALUE")
        pairs[name] = value
    return pairs


def _say_added(session: Session, service: dict[str, Any]) -> int:
    terminal = session.terminal
    if terminal.as_json:
        terminal.data(service)
    elif terminal.quiet:
        terminal.line(str(service["id"]))
    else:
        terminal.line(f"service {service['id']} {words.safe(service['name'])}: {_content(service)}")
        if service.get("warn"):
            terminal.note(f"note: {words.safe(service['warn'])}")
    return OK


def _content(service: dict[str, Any]) -> str:
    """Say in a few words what a service is."""
    if service["service_type"] == "DATA":
        content = f"{words.count(service['file_count'], 'file')}, {words.size(service['size_bytes'])}"
        return content + (", encrypted" if service.get("encrypted") else "")
    program = [
        service.get("executable") or service.get("image") or "",
        *(service.get("entrypoint") or []),
        *(service.get("cmd") or []),
    ]
    return words.safe(" ".join(part if part and " " not in part else repr(part) for part in program))


# ---------------------------------------------------------------- looking


def list_services(session: Session) -> int:
    """List the services."""
    terminal = session.terminal
    services = list(lookup.list_all(session, "service.list", service_type=session.arguments.type))
    if terminal.listed(services):
        return OK
    if not services:
        terminal.note("nothing is offered yet; rnd service add data NAME PATH... offers files")
    else:
        rows = [(s["id"], s["name"], s["service_type"], s["status"], _content(s)) for s in services]
        terminal.table(("ID", "NAME", "TYPE", "STATUS", "WHAT"), rows)
    return OK


def show(session: Session) -> int:
    """Show one service."""
    terminal = session.terminal
    service = session.call("service.get", service_id=lookup.service_id(session, session.arguments.service))
    if terminal.as_json:
        terminal.data(service)
        return OK
    if terminal.quiet:
        terminal.line(str(service["id"]))
        return OK
    limits = ", ".join(f"{name} {bound}" for name, bound in (service.get("limits") or {}).items())
    retry = service.get("retry") or {}
    terminal.facts(
        [
            ("service", f"{service['id']} {service['name']}"),
            ("description", service.get("description") or None),
            ("type", service["service_type"]),
            ("status", service["status"]),
            ("what", _content(service)),
            ("revision", service.get("revision")),
            ("may order", "allowed peers" if service.get("access") == "allowed" else "peers with a grant"),
            ("may go to", service.get("egress")),
            ("downloadable", None if service.get("downloadable") is None else _yes(service["downloadable"])),
            ("environment", ", ".join(f"{k}={v}" for k, v in (service.get("env") or {}).items()) or None),
            ("works in", service.get("working_directory") or None),
            ("timeout", words.duration(service["timeout_s"]) if service.get("timeout_s") else None),
            ("limits", limits or None),
            ("confined", service.get("confine")),
            ("pinned to", service.get("digest") or service.get("image_id")),
            ("network", service.get("network") or None),
            ("runs as", service.get("user") or None),
            ("root", None if service.get("read_only_root") is not False else "can be written"),
            ("capabilities", ", ".join(service.get("cap_add") or ()) or None),
            ("attempts", retry.get("attempts") if service.get("retry_safe") else None),
            ("secrets", ", ".join(service.get("secret_names") or ()) or None),
            ("made", words.ago(service["created_at"], now=now())),
        ]
    )
    terminal.line()
    interfaces = [
        (i["interface_type"], i.get("path") or "-", i.get("mount_function") or "-", _yes(i.get("required", False)))
        for i in service["interfaces"]
    ]
    terminal.table(("INTERFACE", "PATH", "FUNCTION", "REQUIRED"), interfaces)
    return OK


def _yes(value: bool) -> str:
    return "yes" if value else "no"


# ---------------------------------------------------------------- changing


def remove(session: Session) -> int:
    """Offer services no longer."""
    terminal = session.terminal
    answers = []
    for given in session.arguments.services:
        service = lookup.service_id(session, given)
        name = words.safe(session.call("service.get", service_id=service)["name"])
        answers.append(session.call("service.delete", service_id=service))
        left = [
            f"{workflow['workflow_id']} {words.safe(str(workflow['name']))}"
            for workflow in answers[-1].get("workflows", ())
        ]
        if left:
            named = ", ".join(left[:NAMED_MAX]) + (", ..." if len(left) > NAMED_MAX else "")
            terminal.note(f"cannot run any more without {name}: {words.count(len(left), 'workflow')} ({named})")
        if terminal.quiet:
            terminal.line(str(service))
        elif not terminal.as_json:
            terminal.line(f"service {service} {name} is gone")
    if terminal.as_json:
        terminal.data({"items": answers})
    return OK


def set_status(session: Session) -> int:
    """Let a service take orders, or no new ones."""
    service = session.call(
        "service.set_status",
        service_id=lookup.service_id(session, session.arguments.service),
        status=session.arguments.status,
    )
    return _say(session, service, service["id"], f"service {words.safe(service['name'])} is {service['status']}")


def unlock(session: Session) -> int:
    """Open encrypted DATA for other peers' orders."""
    passphrase = read_passphrase(session)
    if passphrase is None:
        raise usage("the passphrase is missing", hint="Give --passphrase-file FILE or --passphrase-prompt.")
    service = lookup.service_id(session, session.arguments.service)
    answer = session.call("service.unlock", service_id=service, passphrase=passphrase)
    return _say(session, answer, service, f"service {service} is open until {words.safe(answer['unlocked_until'])}")


def _say(session: Session, answer: dict[str, Any], number: int, sentence: str) -> int:
    terminal = session.terminal
    if terminal.as_json:
        terminal.data(answer)
    else:
        terminal.line(str(number) if terminal.quiet else sentence)
    return OK


# ---------------------------------------------------------------- uploads


def upload(session: Session) -> int:
    """Bring files to the peer, list or drop those that wait there."""
    arguments, terminal = session.arguments, session.terminal
    if arguments.name and len(arguments.files) != 1:
        raise usage("--name is for one FILE")
    if not arguments.files and not arguments.rm and not arguments.list:
        raise usage("which file?", hint="rnd upload FILE..., or --list")
    dropped = [session.call("upload.delete", name=name) for name in arguments.rm]
    brought = [_upload(session, Path(path), arguments.name) for path in arguments.files]
    if arguments.list:
        return _list_uploads(session)
    if terminal.as_json:
        terminal.data({"items": brought, "deleted": [answer["name"] for answer in dropped]})
        return OK
    for item in brought:
        name = words.safe(item["name"])
        terminal.line(name if terminal.quiet else f"upload:{name}  {words.size(item['size_bytes'])}")
    return OK


def _upload(session: Session, path: Path, name: str | None) -> dict[str, Any]:
    from urllib.parse import quote

    name = name or path.name
    if not path.is_file():
        raise usage(f"{path} is not a file", hint="A folder has to be on the peer's machine, or packed.")
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            answer = session.daemon.upload(f"/upload/{quote(name, safe='')}", file, size)
    except OSError as error:
        raise CommandFailed(f"{path} cannot be read: {error.strerror}") from None
    except CommandFailed as failed:
        if (failed.error or {}).get("error") != "CONFLICT":
            raise
        hint = f"rnd upload --rm {name} drops it; --name gives this one another name."
        raise CommandFailed(f"an upload called {name} exists already", hint=hint, error=failed.error) from None
    return {"name": name, "size_bytes": size, **answer}


def _list_uploads(session: Session) -> int:
    terminal = session.terminal
    items = list(lookup.list_all(session, "upload.list"))
    if not terminal.listed(items, key="name"):
        rows = [(i["name"], words.size(i["size_bytes"]), words.ago(i["created_at"], now=now())) for i in items]
        terminal.table(("NAME", "SIZE", "CAME"), rows)
    return OK
