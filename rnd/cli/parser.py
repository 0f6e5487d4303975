"""The arguments of every command as one argparse tree; completion scripts are made from it too."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from rnd import __version__
from rnd.cli.arguments import Parser, add_command, add_common, add_group, add_list, seconds
from rnd.cli.failures import USAGE
from rnd.cli.peer_arguments import grant_commands, peer_commands
from rnd.cli.service_arguments import add_passphrase, service_commands

OVERVIEW: Final = """\
rnd runs workflows whose steps are services of peers that belong to different people.

A peer
  serve        run the daemon
  status       what this peer is and does
  open         its designer in a browser: draw workflows, run them, watch
  doctor       find out what is wrong with it
  config       show and check its configuration, and who set what
  backup       put it into one file
  restore      make a peer of such a file again
  token        make, list and revoke API tokens
  setup        have systemd run it: unit, user, completions, manual page; and undo that

Other peers
  peer         pair with them, let them in, keep them out: invite, join, list, allow, deny, ...
  grant        what they may do with which service: add, list, rm

Services and workflows
  service      offer and find data, programs, containers: add, suggest, list, search, show, ...
  workflow     list, show, check, plan, import, export, rm
  upload       bring a file to the peer, for a service to take

Running
  run          run a workflow (a file, a name or an id) and watch it
  ps           what runs and ran
  jobs         the same job by job, those for other peers too
  transfers    deliveries: what is under way, and what the others wait for
  watch        watch an execution again
  show         one execution with its jobs
  logs         what a job wrote
  results      list or fetch what came home
  cancel       stop an execution
  retry        run again what did not complete
  explain      why a job is not finished, and what to do

Tools
  rpc          call any method of the API
  demo         two peers on this machine run one workflow together
  completion   print a completion script for bash, zsh or fish
"""

EPILOG: Final = """\
Every command takes --json (one document on standard output) and -q (ids only).
exit codes: 0 ok, 1 refused, 2 usage, 3 execution failed, 4 not allowed, 5 no daemon,
            6 still running at --timeout, 7 execution cancelled, 74 the answer could not be written,
            130 interrupted
"""

DEFAULTS: Final[dict[str, Any]] = {
    "json": False,
    "quiet": False,
    "data_dir": None,
    "url": None,
    "token_file": None,
}


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the parsed arguments; `handler` names the function to run. Leaves by `SystemExit` on a usage error."""
    parser = build_parser(arguments[0] if arguments else "")
    own, programs = _split_at_dashes(arguments)
    parsed, left_over = parser.parse_known_args(own, argparse.Namespace(**DEFAULTS))
    parsed.args = programs
    leaf: Parser = getattr(parsed, "leaf", parser)
    if left_over:
        # argparse gives a list the words before the next option only; the words after it belong to the list as well.
        if not hasattr(parsed, "list_argument") or any(word.startswith("-") for word in left_over):
            leaf.error(f"unrecognized arguments: {' '.join(left_over)}")
        getattr(parsed, parsed.list_argument).extend(left_over)
    if not hasattr(parsed, "handler"):
        incomplete: Parser = getattr(parsed, "incomplete", parser)
        incomplete.print_help(sys.stderr)
        sys.exit(USAGE)
    return parsed


def _split_at_dashes(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Return our own arguments, and those after `--` where the command offers a program, which are the program's."""
    if "--" not in arguments:
        return arguments, []
    dashes = list(arguments).index("--")
    if {"standalone", "docker"}.isdisjoint(arguments[:dashes]):
        return arguments, []
    return arguments[:dashes], arguments[dashes + 1 :]


def build_parser(only: str = "") -> Parser:
    """Return the whole tree, or where `only` is a command the part it is in: that saves every start some milliseconds."""
    parser = Parser(prog="rnd", usage="rnd COMMAND [OPTION...]", description=OVERVIEW, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"rnd {__version__}")
    add_common(parser)
    commands = parser.add_subparsers(metavar="COMMAND", parser_class=Parser, prog="rnd", help=argparse.SUPPRESS)
    chosen = [add_part for add_part, names in _PARTS.items() if only in names] or list(_PARTS)
    for add_part in chosen:
        add_part(commands)
    return parser


# ---------------------------------------------------------------- the peer


def _daemon_commands(commands: Any) -> None:
    serve = add_command(commands, "serve", "node:serve", "Run the daemon in the foreground until it is told to stop.")
    _add_config_options(serve)
    add_command(commands, "status", "node:status", "Show what this peer is and does.")
    opening = add_command(
        commands,
        "open",
        "opening:open_designer",
        "Open the designer in a browser, signed in, and print its address.",
        epilog="The address holds the token, behind the # that browsers keep to themselves: who has it has the peer.",
    )
    opening.add_argument("--no-browser", action="store_true", help="print the address only")
    add_command(
        commands, "doctor", "doctor:doctor", "Look for what could be wrong with this peer, whether it runs or not."
    )

    config = add_group(commands, "config", "Show and check the configuration.")
    show = add_command(config, "show", "node:config_show", "Show every key with the value that `rnd serve` would use.")
    show.add_argument("--origin", action="store_true", help="say where each value comes from: file and line, or what")
    _add_config_options(show)
    check = add_command(
        config, "check", "node:config_check", "Find every problem of the configuration, without starting anything."
    )
    _add_config_options(check)

    backup = add_command(
        commands,
        "backup",
        "backups:backup",
        "Put this peer into one file, while it runs or not: database, keys, its rnd.toml.",
        epilog="What jobs received and left, results among it, is not in it; docs/backup.md says what is promised.",
    )
    backup.add_argument("file", metavar="FILE", help="a new one; whoever can read it can be this peer")
    backup.add_argument("--with-data", action="store_true", help="the files of DATA services too")
    restore = add_command(
        commands,
        "restore",
        "backups:restore",
        "Make a peer of a backup, in an empty --data-dir; nothing runs twice.",
    )
    restore.add_argument("file", metavar="FILE")

    token = add_group(commands, "token", "Make, list and revoke API tokens.")
    create = add_command(token, "create", "node:token_create", "Make a token; it is shown this once.")
    create.add_argument("name", metavar="NAME")
    create.add_argument(
        "--scope",
        choices=("read", "operate", "admin"),
        default="operate",
        help="read: look; operate (default): draw and run workflows of the services as they are offered, with files that "
        "were uploaded; admin: everything, as this machine's user",
    )
    create.add_argument(
        "--valid", type=seconds, metavar="TIME", help="how long it holds, such as 12h (default: for good)"
    )
    add_command(token, "list", "node:token_list", "List the tokens; none is shown.")
    revoke = add_command(token, "revoke", "node:token_revoke", "Revoke a token at once.")
    revoke.add_argument("token", metavar="TOKEN", help="name or id")


def _setup_command(commands: Any) -> None:
    setup = add_command(
        commands,
        "setup",
        "setup:setup",
        "Have systemd run the daemon; install its unit, its user, command completions and the manual page.",
        epilog="Every step is printed. Done again, it brings what has changed up to date. The data is never touched.",
    )
    setup.add_argument("--user", action="store_true", help="as a service of yours, without root")
    setup.add_argument(
        "--docker", action="store_true", help="also rnd-exec, which runs containers: it may use the engine, rnd may not"
    )
    setup.add_argument(
        "--standalone", action="store_true", help="also what any native program needs; the daemon is less shut in then"
    )
    setup.add_argument("--no-start", action="store_true", help="install it; neither enable nor start it")
    setup.add_argument(
        "--uninstall", action="store_true", help="stop it, and remove all that this command has installed"
    )
    setup.add_argument("--dry-run", action="store_true", help="print the steps and take none")
    setup.add_argument("--root", metavar="DIR", help="install below this folder, such as an image; nothing is started")


def _add_config_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="read this file and no other (RND_CONFIG)")
    parser.add_argument("--name", metavar="NAME", help="what this peer calls itself")
    parser.add_argument("--api", metavar="HOST:PORT", help="where the API listens; port 0 takes a free one; '' is none")
    parser.add_argument("--peer", metavar="HOST:PORT", help="where other peers connect; port 0 takes a free one")
    parser.add_argument("--log-level", metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="any other key; may be repeated"
    )


# ---------------------------------------------------------------- workflows


def _workflow_commands(commands: Any) -> None:
    workflow = add_group(commands, "workflow", "What could be run.")
    add_command(workflow, "list", "workflows:list_workflows", "List the workflows.")
    show = add_command(workflow, "show", "workflows:show", "Show a workflow's nodes and connections.")
    show.add_argument("workflow", metavar="WORKFLOW", help="name or id")
    check = add_command(workflow, "check", "workflows:check", "Find every problem of a workflow, without running it.")
    check.add_argument("workflow", metavar="WORKFLOW", help="file, name or id")
    plan = add_command(workflow, "plan", "plans:plan", "Ask every peer of a workflow whether it would do its part.")
    plan.add_argument("workflow", metavar="WORKFLOW", help="file, name or id")
    load = add_command(workflow, "import", "workflows:import_file", "Make a workflow from a file (rnd.workflow/1).")
    load.add_argument("file", metavar="FILE", help="JSON or TOML; - is standard input, as JSON")
    load.add_argument("--name", metavar="NAME", help="another name than the file's")
    export = add_command(workflow, "export", "workflows:export", "Write a workflow as a file (rnd.workflow/1).")
    export.add_argument("workflow", metavar="WORKFLOW", help="name or id")
    export.add_argument("-o", "--output", metavar="FILE", help="default: standard output")
    remove = add_command(workflow, "rm", "workflows:remove", "Delete workflows; their executions stay.")
    add_list(remove, "workflows", "WORKFLOW", "+", "name or id")


# ---------------------------------------------------------------- running


def _running_commands(commands: Any) -> None:
    run = add_command(
        commands,
        "run",
        "running:run",
        "Run a workflow and watch it to its end.",
        epilog="A FILE replaces the workflow of its name unless it says the same.\nCtrl-C ends the watching, not the run.",
    )
    run.add_argument("workflow", metavar="WORKFLOW", help="file (JSON or TOML), name or id")
    add_passphrase(run, "opens encrypted DATA of this peer")
    run.add_argument(
        "--input",
        metavar="WHERE=PATH",
        action="append",
        default=[],
        help="what to send from here; WHERE is the connection's id or the node it leads to",
    )
    run.add_argument("--deadline", metavar="NAME=TIME", action="append", default=[], help="shorten one, start_by_s=30s")
    _add_watch_options(run)

    ps = add_command(commands, "ps", "executions:ps", "List executions, the newest last.")
    ps.add_argument("-n", "--last", type=int, metavar="N", default=20, help="how many (default: 20)")
    ps.add_argument("-a", "--all", action="store_true", help="all of them")
    ps.add_argument("--workflow", metavar="WORKFLOW", help="only of this workflow (name or id)")
    ps.add_argument("--status", choices=("PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"))

    jobs = add_command(commands, "jobs", "jobs:jobs", "List the jobs of executions here and those for other peers.")
    jobs.add_argument("-n", "--last", type=int, metavar="N", default=20, help="how many (default: 20)")
    jobs.add_argument("--status", choices=("IDLE", "READY", "RUNNING", "COMPLETED", "ERRORED", "CANCELLED"))

    transfers = add_command(
        commands, "transfers", "transfers:transfers", "List deliveries that are not over, or all of an execution."
    )
    transfers.add_argument("execution", nargs="?", metavar="EXECUTION", help="its id, or last: all of its deliveries")

    watch = add_command(commands, "watch", "running:watch", "Watch an execution to its end.")
    _add_execution(watch)
    watch.add_argument("--timeout", type=seconds, metavar="TIME", help="stop watching after this time (exit code 6)")
    _add_output(watch)

    show = add_command(commands, "show", "executions:show", "Show an execution with its jobs.")
    _add_execution(show)

    logs = add_command(commands, "logs", "logs:logs", "Print what a job wrote.")
    _add_job(logs)
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the job has ended")
    logs.add_argument("--stream", choices=("stdout", "stderr", "logs"), default="logs", help="default: logs (both)")

    results = add_command(commands, "results", "results:results", "List the files that came home, or fetch them.")
    _add_execution(results)
    _add_output(results)
    results.add_argument("--force", action="store_true", help="replace files that are in DIR already")

    cancel = add_command(commands, "cancel", "executions:cancel", "Stop executions, on every peer.")
    add_list(cancel, "executions", "EXECUTION", "*", "id, or last")
    cancel.add_argument(
        "--job", metavar="JOB", action="append", default=[], help="a job that another peer has ordered here; repeatable"
    )
    cancel.add_argument("--reason", metavar="TEXT")

    retry = add_command(
        commands,
        "retry",
        "running:retry",
        "Run again what did not complete, and watch it.",
        epilog="What completed is taken over, on other peers too, as long as its outputs are there and its service has not "
        "changed; a peer keeps them for the hold (24 h) and says in phase 1 whether it still has them. rnd show names "
        "the jobs that have not run.",
    )
    _add_execution(retry)
    _add_watch_options(retry)

    explain = add_command(commands, "explain", "executions:explain", "Say why a job is not finished, and what to do.")
    _add_job(explain)


def _add_execution(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("execution", metavar="EXECUTION", nargs="?", default="last", help="id (default: last)")


def _add_job(parser: argparse.ArgumentParser) -> None:
    add_list(parser, "job", "JOB | EXECUTION NODE", "*", "job id; or execution id or last, and node")
    parser.add_argument("-e", "--execution", metavar="EXECUTION", help="every job of it that needs a look")


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", metavar="DIR", help="fetch the results into this folder")


def _add_watch_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--timeout", type=seconds, metavar="TIME", help="stop watching after this time (exit code 6)")
    parser.add_argument("-d", "--detach", action="store_true", help="do not watch")
    _add_output(parser)


# ---------------------------------------------------------------- tools


def _tool_commands(commands: Any) -> None:
    rpc = add_command(
        commands,
        "rpc",
        "node:rpc",
        "Call a method of the API and print its result as JSON.",
        epilog="example:\n  rnd rpc execution.get execution_id=5\n  rnd rpc service.list service_type=DATA limit=10",
    )
    rpc.add_argument("method", metavar="METHOD", nargs="?")
    add_list(rpc, "params", "KEY=VALUE", "*", "VALUE is JSON where it parses as such, else text")
    rpc.add_argument("--list", action="store_true", help="list the methods")

    demo = add_command(
        commands, "demo", "demo:demo", "Start two peers on this machine, pair them, and run a workflow across them."
    )
    demo.add_argument("file", metavar="FILE", nargs="?", help="a text to count the words of (default: a short one)")
    demo.add_argument("--directory", metavar="DIR", help="an empty one for the peers (default: a new one in /tmp)")
    demo.add_argument("--keep", action="store_true", help="leave the peers running until Ctrl-C")

    completion = add_command(commands, "completion", "completion:completion", "Print a completion script.")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"), nargs="?")
    kinds = ("services", "workflows", "executions", "methods", "peers")
    completion.add_argument("--candidates", choices=kinds, help=argparse.SUPPRESS)


# What is in which part; a test compares it with the tree.
_PARTS: Final[Mapping[Callable[[Any], None], tuple[str, ...]]] = {
    _daemon_commands: ("serve", "status", "open", "doctor", "config", "backup", "restore", "token"),
    _setup_command: ("setup",),
    peer_commands: ("peer",),
    grant_commands: ("grant",),
    service_commands: ("service", "upload"),
    _workflow_commands: ("workflow",),
    _running_commands: (
        "run",
        "ps",
        "jobs",
        "transfers",
        "watch",
        "show",
        "logs",
        "results",
        "cancel",
        "retry",
        "explain",
    ),
    _tool_commands: ("rpc", "demo", "completion"),
}
