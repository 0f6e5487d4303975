"""Reads the one `Config` record from defaults, TOML files, the environment and flags, and remembers who said what.

Later sources win: the defaults, `/etc/rnd/rnd.toml`, `/etc/rnd/conf.d/*.toml` in name order, the same two below
`$XDG_CONFIG_HOME/rnd`, `<data-dir>/rnd.toml` (which cannot move the data directory it lies in), `RND_*` variables,
flags. `--config FILE` or `RND_CONFIG` replaces all files by that one. A key is `name`, `limits.file_bytes` and so on;
its variable is `RND_NAME`, `RND_LIMITS_FILE_BYTES`. Every problem is reported, not just the first, with file and line.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Final

from rnd.rules.addresses import parse_peer_address
from rnd.rules.reading import plain
from rnd.rules.toml_lines import lines_of_keys
from rnd.types.config import Config, Deadlines, Limits
from rnd.types.config_keys import BOUNDS
from rnd.types.enums import DataCodec, LogFormat, TlsGate
from rnd.types.errors import RndError

SYSTEM_DIRECTORY: Final = Path("/etc/rnd")
FILE_NAME: Final = "rnd.toml"
DEFAULT_ORIGIN: Final = "default"

GROUPS: Final[Mapping[str, type]] = {"deadlines": Deadlines, "limits": Limits}

# Variables of the client and of jobs, which share the prefix but are no keys of the daemon.
OTHER_VARIABLES: Final = frozenset({"RND_CONFIG", "RND_URL", "RND_TOKEN", "RND_TOKEN_FILE"})
OTHER_PREFIXES: Final = ("RND_MOUNT_", "RND_TEST_", "RND_CRASH_")

_WORDS: Final[Mapping[str, type[DataCodec | LogFormat | TlsGate]]] = {
    "data_codec": DataCodec,
    "log_format": LogFormat,
    "tls_gate": TlsGate,
}
LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class ConfigInvalid(RndError):
    """The configuration cannot be used; `problems` lists everything that is wrong with it, with where it was said."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class _Refused(Exception):
    """One value cannot be used; the message says what it must be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedConfig:
    """The configuration and, for each key (`limits.file_bytes`), where its value came from: `FILE:LINE`, a variable, a flag.

    `files` are those that were read, in their order: also one that says nothing, or only what others say later.
    """

    config: Config
    origins: Mapping[str, str]
    files: tuple[Path, ...]

    def value(self, key: str) -> object:
        """Return the value in force of one key."""
        found: object = self.config
        for part in key.split("."):
            found = getattr(found, part)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    name: str
    kind: str
    default: object


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """A raw value and who said it; `is_text` marks values of variables and flags, which are always written as text."""

    key: str
    value: object
    origin: str
    is_text: bool


def config_keys() -> tuple[str, ...]:
    """Return the names of all keys, groups spelled out, in the order of the record."""
    return tuple(_keys())


def variable_of(key: str) -> str:
    """Return the environment variable of a key: `limits.file_bytes` is `RND_LIMITS_FILE_BYTES`."""
    return "RND_" + key.replace(".", "_").upper()


def default_data_dir(environment: Mapping[str, str]) -> Path:
    """Return where a peer lives when nobody says so: `/var/lib/rnd` for root, else `$XDG_STATE_HOME/rnd`."""
    if os.geteuid() == 0 and not environment.get("XDG_STATE_HOME"):
        return Path("/var/lib/rnd")
    return _xdg_directory(environment, "XDG_STATE_HOME", ".local/state") / "rnd"


def load_config(
    *,
    flags: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    system_directory: Path = SYSTEM_DIRECTORY,
    config_file: Path | None = None,
) -> LoadedConfig:
    """Read every source and return the checked configuration.

    `flags` maps keys to text, as the command line gives it. Raises `ConfigInvalid` with all problems at once.
    """
    environment = os.environ if environment is None else environment
    problems: list[str] = []
    files: list[Path] = []
    said = _read_sources(flags or {}, environment, system_directory, config_file, problems, files)
    values: dict[str, object] = {}
    origins = dict.fromkeys(_keys(), DEFAULT_ORIGIN)
    for item in said:
        checked = _check(item, problems)
        if checked is not None:
            values[item.key], origins[item.key] = checked[0], item.origin
    if problems:
        raise ConfigInvalid(problems)
    values.setdefault("data_dir", default_data_dir(environment))
    return LoadedConfig(config=_build(values), origins=origins, files=tuple(files))


def _build(values: Mapping[str, Any]) -> Config:
    # Any: the values were checked against the fields' types key by key just before.
    groups = {
        group: record(**{key.split(".")[1]: value for key, value in values.items() if key.startswith(group + ".")})
        for group, record in GROUPS.items()
    }
    return Config(**{key: value for key, value in values.items() if "." not in key}, **groups)


def _keys() -> dict[str, _Key]:
    keys: dict[str, _Key] = {}
    for item in fields(Config):
        if item.name in GROUPS:
            for inner in fields(GROUPS[item.name]):
                name = f"{item.name}.{inner.name}"
                keys[name] = _Key(name=name, kind=str(inner.type), default=inner.default)
        else:
            default = None if item.default is MISSING else item.default
            keys[item.name] = _Key(name=item.name, kind=str(item.type), default=default)
    return keys


# ---------------------------------------------------------------- sources


def _read_sources(
    flags: Mapping[str, str],
    environment: Mapping[str, str],
    system_directory: Path,
    config_file: Path | None,
    problems: list[str],
    files: list[Path],
) -> list[_Said]:
    named = config_file or (Path(environment["RND_CONFIG"]) if environment.get("RND_CONFIG") else None)
    said: list[_Said] = []
    if named is not None:
        if not named.is_file():
            problems.append(f"{named}: no such file (named by --config or RND_CONFIG)")
        else:
            files.append(named)
    else:
        files += _standard_files(environment, system_directory)
    for path in files:
        said += _read_file(path, problems)
    spoken = _read_environment(environment, problems) + _read_flags(flags, problems)
    if named is None and (own := _data_dir_file(said + spoken, environment)) is not None:
        files.append(own)
        said += _read_data_dir_file(own, problems)
    return said + spoken


def _standard_files(environment: Mapping[str, str], system_directory: Path) -> list[Path]:
    files: list[Path] = []
    for directory in (system_directory, _xdg_directory(environment, "XDG_CONFIG_HOME", ".config") / "rnd"):
        files += [directory / FILE_NAME, *sorted((directory / "conf.d").glob("*.toml"))]
    return [path for path in files if path.is_file()]


def _data_dir_file(said: list[_Said], environment: Mapping[str, str]) -> Path | None:
    data_dir = default_data_dir(environment)
    for item in said:
        if item.key == "data_dir" and isinstance(item.value, str) and item.value:
            data_dir = Path(os.path.expanduser(item.value))
    path = data_dir / FILE_NAME
    # Nor is it there where the folder cannot be entered, which whoever needs the folder will say.
    return path if os.path.isfile(path) else None


def _read_data_dir_file(path: Path, problems: list[str]) -> list[_Said]:
    kept = []
    for item in _read_file(path, problems):
        if item.key == "data_dir":
            problems.append(f"data_dir ({item.origin}): cannot move the data directory that the file lies in")
        else:
            kept.append(item)
    return kept


def _read_file(path: Path, problems: list[str]) -> list[_Said]:
    import tomllib  # here, since the client reads no file in most runs and this costs it milliseconds

    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        problems.append(f"{path}: cannot be read: {error.strerror}")
        return []
    except (
        ValueError,
        RecursionError,
    ) as error:  # no TOML, no UTF-8, a number of more digits than Python converts, endless nesting
        problems.append(f"{path}: is not TOML: {error}")
        return []
    lines = lines_of_keys(text)

    def origin(key: str) -> str:
        line = lines.get(key) or lines.get(key.partition(".")[0])
        return str(path) if line is None else f"{path}:{line}"

    said: list[_Said] = []
    for name, value in document.items():
        if name not in GROUPS:
            said += _known(name, value, origin(name), False, problems)
        elif isinstance(value, dict):
            for inner, inner_value in value.items():
                key = f"{name}.{inner}"
                said += _known(key, inner_value, origin(key), False, problems)
        else:
            problems.append(f"{name}: must be a table, [{name}] ({origin(name)})")
    return said


def _read_environment(environment: Mapping[str, str], problems: list[str]) -> list[_Said]:
    by_variable = {variable_of(key): key for key in _keys()}
    said = []
    for variable, value in sorted(environment.items()):
        if not variable.startswith("RND_") or variable in OTHER_VARIABLES or variable.startswith(OTHER_PREFIXES):
            continue
        if variable in by_variable:
            said.append(_Said(key=by_variable[variable], value=value, origin=variable, is_text=True))
        else:
            known = [*by_variable, *OTHER_VARIABLES]
            problems.append(f"unknown variable {variable}{_suggestion(variable, known)}")
    return said


def _read_flags(flags: Mapping[str, str], problems: list[str]) -> list[_Said]:
    said = []
    for key, value in flags.items():
        origin = f"--{key.replace('_', '-')}" if "." not in key else f"--set {key}"
        said += _known(key, value, origin, True, problems)
    return said


def _known(key: str, value: object, origin: str, is_text: bool, problems: list[str]) -> list[_Said]:
    keys = _keys()
    if key not in keys:
        problems.append(f"unknown key {key!r} ({origin}){_suggestion(key, keys)}")
        return []
    return [_Said(key=key, value=value, origin=origin, is_text=is_text)]


def _suggestion(word: str, known: Iterable[str]) -> str:
    known = list(known)
    # The group is often forgotten: `file_bytes` for `limits.file_bytes`.
    close = [name for name in known if name.split(".")[-1] == word][:1]
    close = close or difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def _xdg_directory(environment: Mapping[str, str], variable: str, below_home: str) -> Path:
    # The XDG specification: a relative path in these variables is to be ignored.
    given = environment.get(variable, "")
    if given.startswith("/"):
        return Path(given)
    home = environment.get("HOME", "")
    return (Path(home) if home.startswith("/") else Path.home()) / below_home


# ---------------------------------------------------------------- values


def _check(item: _Said, problems: list[str]) -> tuple[object] | None:
    """Return the value in its right type, boxed, or `None` after noting what is wrong with it."""
    kind = _keys()[item.key].kind
    try:
        value = _READERS[kind](item)
        _check_bounds(item.key, value)
        _check_meaning(item.key, value)
    except _Refused as error:
        problems.append(f"{item.key} = {item.value!r} ({item.origin}): {error}")
        return None
    return (value,)


def _read_text(item: _Said) -> str:
    if not isinstance(item.value, str):
        raise _Refused("must be text")
    return item.value


def _read_path(item: _Said) -> Path:
    text = _read_text(item)
    if not text:
        raise _Refused("must not be empty")
    if "\0" in text:
        raise _Refused("must not hold a NUL")
    # A flag is relative to where the person stands; in a file that would mean something else at each start.
    path = Path(os.path.expanduser(text))
    if not path.is_absolute() and not item.is_text:
        raise _Refused("must be an absolute path")
    return path.absolute()


def _read_integer(item: _Said) -> int:
    value = item.value
    if item.is_text and isinstance(value, str):
        if not re.fullmatch(r"[+-]?\d[\d_]*", value.strip(), re.ASCII):
            raise _Refused("must be a whole number")
        return int(value.strip().replace("_", ""))
    if not isinstance(value, int) or isinstance(value, bool):
        raise _Refused("must be a whole number")
    return value


def _read_number(item: _Said) -> float:
    value = item.value
    if item.is_text and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise _Refused("must be a number") from None
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise _Refused("must be a number")
    return float(value)


def _read_switch_or_auto(item: _Said) -> bool | None:
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if isinstance(item.value, bool):
        return item.value
    text = item.value.strip().lower() if isinstance(item.value, str) else ""
    if text == "auto":
        return None
    if item.is_text and text in words:
        return words[text]
    raise _Refused("must be true, false or auto")


def _read_texts(item: _Said) -> tuple[str, ...]:
    if item.is_text and isinstance(item.value, str):
        return tuple(part.strip() for part in item.value.split(",") if part.strip())
    if not isinstance(item.value, list) or not all(isinstance(part, str) for part in item.value):
        raise _Refused("must be a list of texts")
    return tuple(item.value)


_READERS: Final[Mapping[str, Callable[[_Said], object]]] = {
    "Path": _read_path,
    "str": _read_text,
    "int": _read_integer,
    "float": _read_number,
    "bool | None": _read_switch_or_auto,
    "tuple[str, ...]": _read_texts,
}


def _check_bounds(key: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    low, high = BOUNDS.get(key, (0, 1 << 62))
    # Written this way round so that NaN, which compares as false with everything, is refused.
    if not low <= value <= high:
        raise _Refused(
            f"must be between {plain(low)} and {plain(high)}" if high < 1 << 60 else f"must be at least {plain(low)}"
        )


def _check_meaning(key: str, value: object) -> None:
    if key == "log_level" and value not in LOG_LEVELS:
        raise _Refused(f"must be one of {', '.join(LOG_LEVELS)}")
    if key == "api" and value != "":
        _check_address(str(value))
    if key in _WORDS and value not in tuple(_WORDS[key]):
        raise _Refused(f"must be one of {', '.join(_WORDS[key])}")
    if key == "advertise" and isinstance(value, tuple):
        for address in value:
            _check_advertised(str(address))
    if key == "peer" and value:
        _check_address(str(value))
    if key == "name" and not (len(str(value)) <= 64 and str(value).isprintable()):
        raise _Refused("must be at most 64 printable characters")
    if key in {"allowed_roots", "operate_roots"} and isinstance(value, tuple):
        for root in value:
            if not root.startswith("/"):
                raise _Refused(f"{root!r} must be an absolute path")


def _check_advertised(text: str) -> None:
    try:
        parse_peer_address(text, names_allowed=False)
    except ValueError as error:
        raise _Refused(f"must hold numeric host:port that others can dial: {error}") from error


def _check_address(text: str) -> None:
    host, separator, port = text.rpartition(":")
    if not separator or not host:
        raise _Refused("must be HOST:PORT, such as 127.0.0.1:30069")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise _Refused("must put an IPv6 address in brackets, such as [::1]:30069")
    if not re.fullmatch(r"\d{1,5}", port, re.ASCII) or int(port) > 65535:
        raise _Refused("must end in a port from 0 to 65535")
