"""Configuration: who wins, what is refused and with which words, and that each value's origin is kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnd.config import BOUNDS, ConfigInvalid, LoadedConfig, config_keys, default_data_dir, load_config, variable_of
from rnd.types.config import Config, Deadlines, Limits


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "etc" / "conf.d").mkdir(parents=True)
    return tmp_path / "etc"


def load(
    home: Path,
    *,
    etc: Path | None = None,
    variables: Mapping[str, str] | None = None,
    flags: Mapping[str, str] | None = None,
    config_file: Path | None = None,
) -> LoadedConfig:
    environment = {"HOME": str(home), "XDG_STATE_HOME": f"{home}/state", **(variables or {})}
    system_directory = etc or home / "no-etc"
    return load_config(flags=flags, environment=environment, system_directory=system_directory, config_file=config_file)


def problems_of(home: Path, **sources: Mapping[str, str]) -> tuple[str, ...]:
    with pytest.raises(ConfigInvalid) as caught:
        load(home, **sources)  # type: ignore[arg-type]  # each test names sources that load takes
    return caught.value.problems


def test_without_any_source_every_value_is_the_default(home: Path) -> None:
    loaded = load(home)
    assert loaded.config == Config(data_dir=home / "state" / "rnd")
    assert set(loaded.origins) == set(config_keys())
    assert set(loaded.origins.values()) == {"default"}


def test_later_sources_win_and_each_origin_is_kept(home: Path, etc: Path) -> None:
    (etc / "rnd.toml").write_text('name = "system"\njob_slots = 2\ntransfer_slots = 3\nqueue_interval_s = 4\n')
    (etc / "conf.d" / "20.toml").write_text("job_slots = 20\n")
    (etc / "conf.d" / "10.toml").write_text("job_slots = 10\ntransfer_slots = 30\n")
    user = home / ".config" / "rnd" / "rnd.toml"
    user.parent.mkdir(parents=True)
    user.write_text('name = "user"\n[limits]\nrpc_batch = 7\n')
    own = home / "state" / "rnd" / "rnd.toml"
    own.parent.mkdir(parents=True)
    own.write_text('name = "own"\nlog_level = "DEBUG"\napi = "127.0.0.1:1"\n')
    loaded = load(
        home, etc=etc, variables={"RND_API": "127.0.0.1:2", "RND_LOG_LEVEL": "ERROR"}, flags={"api": "127.0.0.1:3"}
    )
    shown = {key: (loaded.value(key), loaded.origins[key]) for key in ("name", "job_slots", "transfer_slots", "api")}
    assert shown == {
        "name": ("own", f"{own}:1"),
        "job_slots": (20, f"{etc}/conf.d/20.toml:1"),
        "transfer_slots": (30, f"{etc}/conf.d/10.toml:2"),
        "api": ("127.0.0.1:3", "--api"),
    }
    assert loaded.config.queue_interval_s == 4.0
    assert loaded.origins["log_level"] == "RND_LOG_LEVEL"
    assert (loaded.config.limits.rpc_batch, loaded.origins["limits.rpc_batch"]) == (7, f"{user}:3")
    assert loaded.files == (etc / "rnd.toml", etc / "conf.d" / "10.toml", etc / "conf.d" / "20.toml", user, own)


def test_a_user_has_drop_ins_too(home: Path, etc: Path) -> None:
    (etc / "conf.d" / "90.toml").write_text("job_slots = 1\n")
    folder = home / ".config" / "rnd" / "conf.d"
    folder.mkdir(parents=True)
    (folder / "10.toml").write_text("job_slots = 2\n")
    loaded = load(home, etc=etc)
    assert (loaded.config.job_slots, loaded.origins["job_slots"]) == (2, f"{folder}/10.toml:1")


def test_a_problem_names_file_and_line(home: Path, etc: Path) -> None:
    file = etc / "rnd.toml"
    file.write_text("deadlines = {hold_s = 0}\njob_slot = 1\n\n[limits]\nfile_byte = 2\nrpc_batch = 0\n")
    with pytest.raises(ConfigInvalid) as caught:
        load(home, etc=etc)
    assert caught.value.problems == (
        f"unknown key 'job_slot' ({file}:2); did you mean 'job_slots'?",
        f"unknown key 'limits.file_byte' ({file}:5); did you mean 'limits.file_bytes'?",
        f"deadlines.hold_s = 0 ({file}:1): must be between 0.1 and 31622400",
        f"limits.rpc_batch = 0 ({file}:6): must be between 1 and 10000",
    )


def test_no_key_holds_a_secret() -> None:
    """What `rnd config show` prints and what a problem quotes may be read by anyone: secrets are files of their own."""
    words = {word for key in config_keys() for word in re.split(r"[._]", key)}
    assert words.isdisjoint({"passphrase", "password", "secret", "token", "key", "credential", "credentials"})


def test_a_named_file_replaces_all_others(home: Path, etc: Path, tmp_path: Path) -> None:
    (etc / "rnd.toml").write_text("job_slots = 2\n")
    chosen = tmp_path / "chosen.toml"
    chosen.write_text('name = "chosen"\n')
    for loaded in (
        load(home, etc=etc, config_file=chosen),
        load(home, etc=etc, variables={"RND_CONFIG": str(chosen)}),
    ):
        assert (loaded.config.name, loaded.config.job_slots) == ("chosen", 0)


def test_a_named_file_that_is_missing_is_a_problem(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="no such file"):
        load(home, config_file=tmp_path / "gone.toml")


def test_the_home_of_nobody_is_a_name_like_any_other() -> None:
    assert (
        load_config(flags={"data_dir": "~nobody-of-that-name"}).value("data_dir")
        == Path("~nobody-of-that-name").absolute()
    )


def test_the_file_in_the_data_directory_is_found_through_any_source_and_cannot_move_it(
    home: Path, etc: Path, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "rnd.toml").write_text('name = "there"\n')
    (etc / "rnd.toml").write_text(f'data_dir = "{place}"\n')
    assert load(home, etc=etc).config.name == "there"
    assert load(home, variables={"RND_DATA_DIR": str(place)}).config.name == "there"
    assert load(home, flags={"data_dir": str(place)}).config.name == "there"
    (place / "rnd.toml").write_text('data_dir = "/elsewhere"\n')
    with pytest.raises(ConfigInvalid, match="cannot move the data directory"):
        load(home, flags={"data_dir": str(place)})


@pytest.mark.parametrize("key", config_keys())
def test_every_key_has_its_variable_and_every_number_its_bounds(home: Path, key: str) -> None:
    kind = next(
        item.type
        for record, prefix in ((Config, ""), (Deadlines, "deadlines."), (Limits, "limits."))
        for item in fields(record)
        if prefix + item.name == key
    )
    if kind in {"int", "float"}:
        low, high = BOUNDS[key]
        assert low <= float(str(load(home).value(key))) <= high
        for wrong in (low - 1, high + 1):
            (problem,) = problems_of(home, variables={variable_of(key): str(int(wrong))})
            assert problem.startswith(f"{key} = '{int(wrong)}' ({variable_of(key)}): must be between")


def test_nested_keys_are_set_by_variables(home: Path) -> None:
    loaded = load(home, variables={"RND_LIMITS_NODES_PER_WORKFLOW": "1_234", "RND_DEADLINES_START_BY_S": "1.5"})
    assert loaded.config.limits.nodes_per_workflow == 1234
    assert loaded.config.deadlines.start_by_s == 1.5


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("log_file", "yes", True),
        ("log_file", "off", False),
        ("log_file", "auto", None),
        ("allowed_hosts", "a:1, b ,", ("a:1", "b")),
        ("allowed_hosts", "", ()),
        ("api", "", ""),
        ("api", "[::1]:0", "[::1]:0"),
        ("name", "Größe 数", "Größe 数"),
        ("log_level", "WARNING", "WARNING"),
    ],
)
def test_texts_are_read_as_what_they_mean(home: Path, key: str, text: str, value: object) -> None:
    assert load(home, flags={key: text}).value(key) == value


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("api", "nonsense", "must be HOST:PORT"),
        ("api", "127.0.0.1:65536", "must end in a port"),
        ("api", "127.0.0.1:+1", "must end in a port"),
        ("api", "::1:80", "brackets"),
        ("peer", "30906", "must be HOST:PORT"),
        ("job_slots", "many", "must be a whole number"),
        ("job_slots", "1.5", "must be a whole number"),
        ("queue_interval_s", "nan", "must be between"),
        ("queue_interval_s", "inf", "must be between"),
        ("queue_interval_s", "soon", "must be a number"),
        ("log_level", "LOUD", "must be one of DEBUG"),
        ("log_file", "perhaps", "must be true, false or auto"),
        ("name", "a\x1b[31m", "printable"),
        ("name", "x" * 65, "at most 64"),
        ("allowed_roots", "relative", "absolute path"),
        ("data_dir", "", "must not be empty"),
        ("data_dir", "a\0b", "NUL"),
    ],
)
def test_a_wrong_value_is_refused_with_key_value_and_origin(home: Path, key: str, text: str, words: str) -> None:
    (problem,) = problems_of(home, flags={key: text})
    assert problem.startswith(f"{key} = {text!r} (--{key.replace('_', '-')}): ")
    assert words in problem


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("job_slots = true", "must be a whole number"),
        ('job_slots = "3"', "must be a whole number"),
        ("job_slots = 3.0", "must be a whole number"),
        ("name = 3", "must be text"),
        ("queue_interval_s = false", "must be a number"),
        ('allowed_hosts = "a,b"', "must be a list of texts"),
        ("allowed_hosts = [1]", "must be a list of texts"),
        ('log_file = "yes"', "must be true, false or auto"),
        ('data_dir = "relative"', "must be an absolute path"),
        ("limits = 3", "must be a table"),
        ("nonsense", "is not TOML"),
        ("job_slots = " + "9" * 5_000, "is not TOML"),
        ("job_slots = " + "[" * 1_000, "is not TOML"),
    ],
)
def test_files_are_held_to_their_types(home: Path, tmp_path: Path, line: str, words: str) -> None:
    file = tmp_path / "rnd.toml"
    file.write_text(line + "\n")
    with pytest.raises(ConfigInvalid, match=words) as caught:
        load(home, config_file=file)
    assert str(file) in caught.value.problems[0]


@pytest.mark.parametrize(
    ("flags", "variables", "meant"),
    [
        ({"job_slot": "1"}, {}, "job_slots"),
        ({"limits.file_byte": "1"}, {}, "limits.file_bytes"),
        ({"file_bytes": "1"}, {}, "limits.file_bytes"),
        ({}, {"RND_LIMITS_FILEBYTES": "1"}, "RND_LIMITS_FILE_BYTES"),
        ({}, {"RND_TOKN": "1"}, "RND_TOKEN"),
    ],
)
def test_unknown_keys_are_errors_with_a_suggestion(
    home: Path, flags: dict[str, str], variables: dict[str, str], meant: str
) -> None:
    (problem,) = problems_of(home, flags=flags, variables=variables)
    assert problem.startswith("unknown ")
    assert problem.endswith(f"did you mean {meant!r}?")


def test_variables_of_the_client_and_of_jobs_are_no_keys(home: Path) -> None:
    variables = {"RND_URL": "http://x", "RND_TOKEN": "t", "RND_TOKEN_FILE": "f", "RND_MOUNT_INPUT": "/m"}
    assert load(home, variables=variables).config == load(home).config


def test_all_problems_are_told_at_once(home: Path) -> None:
    assert len(problems_of(home, flags={"api": "x", "nam": "y", "job_slots": "-1"}, variables={"RND_X": "1"})) == 4


def test_relative_paths_are_meant_from_where_the_person_stands(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir()
    monkeypatch.chdir(home)
    assert load(home, flags={"data_dir": "peer"}).config.data_dir == home / "peer"


def test_a_relative_xdg_variable_is_ignored_as_its_specification_says(home: Path) -> None:
    assert default_data_dir({"HOME": str(home), "XDG_STATE_HOME": "rel"}) == home / ".local" / "state" / "rnd"


@given(st.dictionaries(st.sampled_from([*config_keys(), "x"]), st.text(max_size=20), max_size=5))
def test_whatever_is_said_the_answer_is_a_configuration_or_a_list_of_problems(flags: dict[str, str]) -> None:
    try:
        load(Path("/nowhere"), flags=flags)
    except ConfigInvalid as error:
        told = error.problems
    else:
        told = ("none, it is a configuration",)
    assert told
