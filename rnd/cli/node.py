"""Commands about the peer itself: serve, status, config, token; and `rpc`, the door to every method."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rnd.cli import lookup, words
from rnd.cli.failures import OK, USAGE, CommandFailed, usage
from rnd.cli.session import Session
from rnd.cli.terminal import now

if TYPE_CHECKING:
    from rnd.config import LoadedConfig

_CONFIG_FLAGS: Final = ("data_dir", "name", "api", "peer", "log_level")


def serve(session: Session) -> int:
    """Run the daemon."""
    if session.arguments.url:
        raise usage("rnd serve runs a peer here; --url is for the other commands")
    loaded = _load(session)
    from rnd.daemon import run  # everything heavy is behind this line

    return run(loaded.config, reread=_source(session))


def config_show(session: Session) -> int:
    """Show the configuration that `rnd serve` would use with the same options."""
    from rnd.config import config_keys

    loaded = _load(session)
    terminal = session.terminal
    if terminal.as_json:
        values = {key: _plain(loaded.value(key)) for key in config_keys()}
        terminal.data({"values": values, "origins": dict(loaded.origins)} if session.arguments.origin else values)
        return OK
    if session.arguments.origin:
        rows = [(key, _spelt(loaded.value(key)), loaded.origins[key]) for key in config_keys()]
        terminal.table(("KEY", "VALUE", "ORIGIN"), rows)
    else:
        terminal.facts([(key, _spelt(loaded.value(key))) for key in config_keys()])
    return OK


def config_check(session: Session) -> int:
    """Say that `rnd serve` would take its configuration, and from which files; a problem is an error."""
    from rnd.config import DEFAULT_ORIGIN

    loaded = _load(session)
    terminal = session.terminal
    files = [str(path) for path in loaded.files]
    changed = [key for key, origin in loaded.origins.items() if origin != DEFAULT_ORIGIN]
    if terminal.as_json:
        terminal.data({"files": files, "set": changed})
    elif not terminal.quiet:
        terminal.line(f"the configuration is right; {len(changed)} of {len(loaded.origins)} keys are set")
        for file in files:
            terminal.line(f"read: {words.safe(file)}")
    return OK


def _load(session: Session) -> LoadedConfig:
    from rnd.config import ConfigInvalid

    try:
        return _source(session)()
    except ConfigInvalid as error:
        raise CommandFailed(
            "the configuration cannot be used",
            exit_code=USAGE,
            problems=error.problems,
            hint="docs/configuration.md lists every key; rnd config check says when all is right.",
        ) from None


def _source(session: Session) -> Callable[[], LoadedConfig]:
    """Return what reads the configuration, each time anew, as these arguments say it."""
    from rnd.config import load_config

    arguments = session.arguments
    flags = {key: getattr(arguments, key) for key in _CONFIG_FLAGS if getattr(arguments, key) is not None}
    for setting in arguments.set:
        key, separator, value = setting.partition("=")
        if not separator:
            raise usage(f"--set {setting}: must be KEY=VALUE", hint="For example --set limits.stream_bytes=1000000")
        flags[key.strip()] = value
    return partial(
        load_config,
        flags=flags,
        environment=session.environment,
        config_file=Path(arguments.config) if arguments.config else None,
    )


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def _spelt(value: object) -> str:
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(value) or "(none)"
    return f"{value:g}" if isinstance(value, float) else str(value) or "(none)"


# ---------------------------------------------------------------- status


def status(session: Session) -> int:
    """Show what the peer is and does."""
    terminal = session.terminal
    facts = session.call("node.status")
    if terminal.as_json:
        terminal.data(facts)
    elif terminal.quiet:
        terminal.line(words.safe(facts["peer_id"]))
    else:
        api = facts.get("api") or {}
        terminal.facts(
            [
                ("peer", facts["peer_id"]),
                ("name", facts["name"]),
                ("version", f"{facts['version']}, up {words.duration(facts['uptime_s'])}"),
                ("socket", api.get("socket") or None),
                ("address", api.get("url") or "none, the socket only"),
                ("peers", _peers(facts)),
                *((f"{name} jobs", _executor(health)) for name, health in facts["executors"].items()),
                ("executions", _counts(facts["executions"])),
                ("jobs", _counts(facts["jobs"])),
                ("transfers", f"{facts['transfers_active']} active"),
                ("disk free", words.size(facts["disk_free_bytes"])),
            ]
        )
    return OK


def _peers(facts: dict[str, Any]) -> str:
    addresses = ", ".join(facts["peer_addresses"])
    connected = f"{facts['peers_connected']} connected"
    return f"{connected}, listening on {addresses}" if addresses else connected


def _executor(health: dict[str, Any]) -> str:
    if health.get("available"):
        more = [str(health[name]) for name in ("version", "reason") if health.get(name)]
        if health.get("sandbox", "none") != "none":
            more.append(f"confined by {health['sandbox']}")
        return f"yes ({', '.join(more)})" if more else "yes"
    return f"no: {health.get('reason') or 'not available'}"


def _counts(by_status: dict[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in by_status.items() if count) or "none"


# ---------------------------------------------------------------- tokens


def token_create(session: Session) -> int:
    """Make a token."""
    arguments, terminal = session.arguments, session.terminal
    made = session.call("token.create", name=arguments.name, scope=arguments.scope, valid_s=arguments.valid)
    if terminal.as_json:
        terminal.data(made)
    else:
        terminal.line(words.safe(made["token"]))
        terminal.note(f"note: this is token {made['id']} ({arguments.scope}); it is not shown again")
    return OK


def token_list(session: Session) -> int:
    """List the tokens."""
    terminal = session.terminal
    tokens = list(lookup.list_all(session, "token.list"))
    if not terminal.listed(tokens):
        rows = [(t["id"], t["name"], t["scope"], words.ago(t["created_at"], now=now()), _holds(t)) for t in tokens]
        terminal.table(("ID", "NAME", "SCOPE", "MADE", "HOLDS"), rows)
    return OK


def _holds(token: dict[str, Any]) -> str:
    if token.get("revoked_at"):
        return f"revoked {words.ago(token['revoked_at'], now=now())}"
    ends = words.moment(token.get("valid_until"))
    if ends is None:
        return "for good"
    left = (ends - now()).total_seconds()
    return f"for {words.duration(left)}" if left > 0 else f"ended {words.ago(token['valid_until'], now=now())}"


def token_revoke(session: Session) -> int:
    """Revoke a token."""
    revoked = session.call("token.revoke", token_id=lookup.token_id(session, session.arguments.token))
    if session.terminal.as_json:
        session.terminal.data(revoked)
    elif session.terminal.quiet:
        session.terminal.line(str(revoked["id"]))
    else:
        session.terminal.line(f"token {revoked['id']} ({words.safe(revoked['name'])}) is revoked")
    return OK


# ---------------------------------------------------------------- rpc


def rpc(session: Session) -> int:
    """Call a method and print its result, or list the methods."""
    arguments, terminal = session.arguments, session.terminal
    if arguments.list:
        methods = session.call("rpc.discover")["methods"]
        if terminal.as_json:
            terminal.data(methods)
        else:
            _print_methods(session, methods)
        return OK
    if not arguments.method:
        raise usage("which method?", hint="rnd rpc --list lists them.")
    # A bounded wait that the caller asks for is not cut short here.
    params = dict(_parameter(text) for text in arguments.params)
    waits = [params.get(name) for name in ("timeout_s", "wait_s")]
    patience_s = max([float(wait) for wait in waits if isinstance(wait, (int, float))], default=0.0)
    terminal.data(session.daemon.call(arguments.method, params, patience_s=patience_s))
    return OK


def _print_methods(session: Session, methods: list[dict[str, Any]]) -> None:
    rows = []
    for method in methods:
        params = [
            param["name"] if param.get("required") else f"[{param['name']}]" for param in method.get("params", [])
        ]
        rows.append((method["name"], method.get("summary", "") if session.terminal.is_terminal else " ".join(params)))
    if session.terminal.quiet:
        for name, _ in rows:
            session.terminal.line(words.safe(name))
    else:
        session.terminal.table(("METHOD", "SUMMARY" if session.terminal.is_terminal else "PARAMETERS"), rows)


def _parameter(text: str) -> tuple[str, Any]:
    """Return name and value of `key=value`: JSON where it parses as such, else the text itself."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise usage(f"{text!r} is no parameter", hint="Write key=value, such as execution_id=5 or paths='[\"/data\"]'.")
    try:
        return name, json.loads(value, parse_constant=_refuse_constant)
    except ValueError:
        return name, value


def _refuse_constant(word: str) -> None:
    raise ValueError(word)
