"""The arguments of the commands about what a peer offers: `rnd service` and `rnd upload`."""

from __future__ import annotations

import argparse
from typing import Any

from rnd.cli.arguments import add_command, add_group, add_list, seconds, size_bytes


def service_commands(commands: Any) -> None:
    """Add `rnd service` and `rnd upload`."""
    service = add_group(commands, "service", "Offer data and programs to workflows.")
    add = add_group(service, "add", "Offer something new.")
    _add_data(add)
    _add_standalone(add)
    _add_docker(add)

    listing = add_command(service, "list", "services:list_services", "List what this peer offers.")
    listing.add_argument("--type", choices=("DATA", "DOCKER", "STANDALONE"), help="only this kind")
    search = add_command(service, "search", "searching:search", "Find services, here and on connected peers.")
    search.add_argument("query", metavar="QUERY", nargs="?", default="", help="words of a name or description")
    search.add_argument("--type", choices=("DATA", "DOCKER", "STANDALONE"), help="only this kind")
    search.add_argument("--peer", metavar="PEER", action="append", default=[], help="ask only this one; repeatable")
    search.add_argument("--all", action="store_true", help="those of this peer that take no orders too")
    search.add_argument("--timeout", type=seconds, metavar="TIME", default=15.0, help="for all answers (default: 15s)")
    suggest = add_command(
        service, "suggest", "services:suggest", "Say which mounts an image on the peer's machine suggests."
    )
    suggest.add_argument("image", metavar="IMAGE")
    show = add_command(service, "show", "services:show", "Show one service.")
    show.add_argument("service", metavar="SERVICE", help="name or id")
    remove = add_command(service, "rm", "services:remove", "Offer something no longer.")
    add_list(remove, "services", "SERVICE", "+", "name or id")
    status = add_command(service, "set-status", "services:set_status", "Let a service take orders, or no new ones.")
    status.add_argument("service", metavar="SERVICE", help="name or id")
    status.add_argument("status", choices=("ACTIVE", "INACTIVE"))
    unlock = add_command(service, "unlock", "services:unlock", "Open encrypted DATA for the orders of other peers.")
    unlock.add_argument("service", metavar="SERVICE", help="name or id")
    add_passphrase(unlock, "its passphrase")

    upload = add_command(
        commands, "upload", "services:upload", "Bring files to the peer; a service takes one as upload:NAME."
    )
    add_list(upload, "files", "FILE", "*", "a file of this machine")
    upload.add_argument("--name", metavar="NAME", help="another name for it there (one FILE only)")
    upload.add_argument("--list", action="store_true", help="list what waits there")
    upload.add_argument("--rm", metavar="NAME", action="append", default=[], help="drop an upload; may be repeated")


def _add_data(add: Any) -> None:
    data = add_command(add, "data", "services:add_data", "Offer files and folders; a snapshot of them is taken now.")
    data.add_argument("name", metavar="NAME")
    add_list(data, "paths", "PATH", "+", "file or folder on the peer's machine, or upload:NAME")
    add_passphrase(data, "encrypt the snapshot with this passphrase")
    data.set_defaults(passphrase_twice=True)
    data.add_argument("--upload", action="store_true", help="PATHs are files here: bring them to the peer first")
    data.add_argument("--egress", choices=("any_job", "listed", "here_only"), help="where it may go (default: any_job)")
    data.add_argument(
        "--egress-peer", metavar="PEER", action="append", default=[], help="for --egress listed; repeatable"
    )
    data.add_argument("--no-download", action="store_true", help="only jobs may have it, never a person")
    data.add_argument("--seal", action="store_true", help="seal it end to end on its way")
    _add_offer_options(data)


def _add_standalone(add: Any) -> None:
    program = add_command(
        add,
        "standalone",
        "services:add_standalone",
        "Offer a program of the peer's machine.",
        epilog="example:\n  rnd service add standalone count-words /usr/bin/wc -- -w\n"
        "  rnd service add standalone merge ./merge.sh --mount /input:INPUT --timeout 10m",
    )
    program.add_argument("name", metavar="NAME")
    program.add_argument("executable", metavar="EXECUTABLE", help="path, or name in PATH; its arguments go after --")
    _add_program_options(program)
    program.add_argument("--working-directory", metavar="DIR", help="default: the job's output folder")
    program.add_argument("--confine", choices=("auto", "always", "never"), help="default: auto, other peers' orders")
    program.add_argument("--network", choices=("none", "host"))
    program.add_argument("--host-path", metavar="PATH[:rw]", action="append", default=[], help="open to confined runs")
    _add_offer_options(program)


def _add_docker(add: Any) -> None:
    container = add_command(
        add,
        "docker",
        "services:add_docker",
        "Offer a container; its image is found on the peer's machine, pulled or built, and pinned.",
        epilog="example:\n  rnd service add docker train python:3-slim --mount /model:OUTPUT -- python3 -c 'print(6 * 7)'\n"
        "  rnd service add docker tool --build ./tool --memory 2G",
    )
    container.add_argument("name", metavar="NAME")
    container.add_argument(
        "image", metavar="IMAGE", nargs="?", help="such as python:3-slim; the arguments of its program go after --"
    )
    container.add_argument("--build", metavar="DIR", help="build it from this folder on the peer's machine")
    container.add_argument(
        "--entrypoint",
        metavar="WORD",
        action="append",
        default=[],
        help="in place of the image's; repeat for more words",
    )
    _add_program_options(container)
    container.add_argument("--gpus", type=int, metavar="N", help="how many of the machine's")
    container.add_argument("--network", choices=("none", "bridge"), help="default: none")
    container.add_argument("--user", metavar="UID[:GID]", help="default: the daemon's own, nobody where that is root")
    container.add_argument("--writable-root", action="store_true", help="it may write to its whole file system")
    container.add_argument("--tmpfs", type=size_bytes, metavar="SIZE", help="of /tmp (default: 64M)")
    container.add_argument("--cap-add", metavar="NAME", action="append", default=[], help="a capability to give back")
    container.add_argument("--registry-user", metavar="USER", help="who pulls the image")
    container.add_argument("--registry-password-file", metavar="FILE", help="and with what password or token")
    _add_offer_options(container)


def _add_program_options(program: argparse.ArgumentParser) -> None:
    """Add what a native program and a container have in common."""
    program.add_argument("--arg", metavar="ARG", action="append", default=[], help="one argument; may be repeated")
    program.add_argument(
        "--mount",
        metavar="PATH:FUNCTION",
        action="append",
        default=[],
        help="a folder of files in or out, /input:INPUT, /output:OUTPUT or /work:BOTH; :required is possible at the end",
    )
    program.add_argument("--env", metavar="KEY=VALUE", action="append", default=[], help="may be repeated")
    program.add_argument(
        "--secret", metavar="NAME=FILE", action="append", default=[], help="given to the job as a file"
    )
    program.add_argument("--timeout", type=seconds, metavar="TIME", help="such as 90, 30s, 10m or 2h")
    program.add_argument("--cpus", type=float, metavar="N")
    program.add_argument("--memory", type=size_bytes, metavar="SIZE", help="such as 512M or 4G")
    program.add_argument("--disk", type=size_bytes, metavar="SIZE")
    program.add_argument("--pids", type=int, metavar="N", help="how many processes at once")
    program.add_argument("--allow-override", action="store_true", help="other peers may set the arguments")
    program.add_argument("--attempts", type=int, metavar="N", help="try a failed run again; only if that does no harm")
    program.add_argument("--backoff", type=seconds, metavar="TIME", help="wait between attempts")


def _add_offer_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--description", metavar="TEXT")
    parser.add_argument("--access", choices=("allowed", "granted"), help="who may order it (default: allowed peers)")


def add_passphrase(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Add the ways to give a passphrase."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--passphrase-file", metavar="FILE", help=f"{purpose}, from a file")
    group.add_argument("--passphrase-prompt", action="store_true", help=f"{purpose}, typed")
