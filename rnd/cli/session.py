"""One run of a command: its arguments, its terminal, and the daemon that it speaks to."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rnd.cli.connection import Daemon
from rnd.cli.failures import AUTH, USAGE, CommandFailed, usage
from rnd.cli.terminal import Terminal

MAX_SECRET_BYTES: Final = 64 << 10
_LOOPBACK: Final = ("http://127.", "http://localhost", "http://[::1]")


class Session:
    """What every command gets. The daemon is found and connected when it is first asked for."""

    def __init__(
        self, arguments: argparse.Namespace, terminal: Terminal, environment: Mapping[str, str] | None = None
    ) -> None:
        self.arguments = arguments
        self.terminal = terminal
        self.environment = os.environ if environment is None else environment
        self._daemon: Daemon | None = None

    @property
    def daemon(self) -> Daemon:
        """Return the daemon that the arguments and the environment name."""
        if self._daemon is None:
            self._daemon = self._find_daemon()
        return self._daemon

    @property
    def is_remote(self) -> bool:
        """Tell whether the daemon was named by an address: its files may then be on another machine."""
        return bool(self._url())

    def call(self, method: str, /, *, patience_s: float = 0.0, **params: Any) -> Any:
        """Call a method with the parameters that are not `None` and return its result. Raises `CommandFailed`.

        `patience_s` is how long the method itself may take before its answer is waited for as usual.
        """
        given = {name: value for name, value in params.items() if value is not None}
        return self.daemon.call(method, given, patience_s=patience_s)

    def data_dir(self) -> Path:
        """Return the data directory: `--data-dir`, `RND_DATA_DIR`, the configuration files, the default."""
        given = getattr(self.arguments, "data_dir", None) or self.environment.get("RND_DATA_DIR")
        if given:
            return Path(os.path.expanduser(given)).absolute()
        from rnd.config import ConfigInvalid, default_data_dir, load_config

        only_where = {name: value for name, value in self.environment.items() if name == "RND_CONFIG"}
        places = {name: self.environment[name] for name in _PLACES if name in self.environment}
        try:
            return load_config(environment=only_where | places).config.data_dir
        except ConfigInvalid:
            # A file that only its daemon can read, or that is wrong: the daemon says so when it starts.
            return default_data_dir(self.environment)

    def token(self) -> str:
        """Return the token for `--url`; "": none was given. Raises `CommandFailed`."""
        file = getattr(self.arguments, "token_file", None) or self.environment.get("RND_TOKEN_FILE")
        if not file:
            return self.environment.get("RND_TOKEN", "").strip()
        try:
            return read_secret(Path(file)).strip()
        except CommandFailed as failed:
            raise CommandFailed(
                failed.message, exit_code=AUTH, hint="It is <data-dir>/api_token at the start."
            ) from None

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._daemon is not None:
            self._daemon.close()

    # ------------------------------------------------------------------ private

    def _url(self) -> str:
        given: str | None = getattr(self.arguments, "url", None)
        if given:
            return given
        if getattr(self.arguments, "data_dir", None):
            return ""
        return self.environment.get("RND_URL", "")

    def _find_daemon(self) -> Daemon:
        if getattr(self.arguments, "url", None) and getattr(self.arguments, "data_dir", None):
            raise usage("--url and --data-dir name two daemons", hint="Give one of them.")
        url = self._url()
        if not url:
            return Daemon(data_dir=self.data_dir())
        token = self.token()
        if token and not url.startswith(_LOOPBACK):
            self.terminal.note(f"note: the token travels unencrypted to {url}; a tunnel (ssh -L) would hide it")
        return Daemon(url=url, token=token)


_PLACES: Final = ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME")


def read_secret(path: Path) -> str:
    """Return the text of a file that holds a token or a passphrase, without its last line end. Raises `CommandFailed`."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SECRET_BYTES + 1)
        text = content.decode("utf-8")
    except OSError as error:
        raise CommandFailed(f"{path} cannot be read: {error.strerror}", exit_code=USAGE) from None
    except UnicodeDecodeError:
        raise CommandFailed(f"{path} is not UTF-8 text", exit_code=USAGE) from None
    if len(content) > MAX_SECRET_BYTES:
        raise CommandFailed(f"{path} is too big to be a secret", exit_code=USAGE)
    return text.removesuffix("\n").removesuffix("\r")


def read_passphrase(session: Session) -> str | None:
    """Return the passphrase that `--passphrase-file` or `--passphrase-prompt` gives, or `None`."""
    arguments = session.arguments
    if getattr(arguments, "passphrase_file", None):
        passphrase = read_secret(Path(arguments.passphrase_file))
    elif getattr(arguments, "passphrase_prompt", False):
        from getpass import getpass

        try:
            passphrase = getpass("Passphrase: ")
            if getattr(arguments, "passphrase_twice", False) and getpass("Again: ") != passphrase:
                raise usage("the two passphrases differ")
        except EOFError:
            raise usage("no passphrase was typed") from None
    else:
        return None
    if not passphrase:
        raise usage("the passphrase is empty")
    return passphrase
