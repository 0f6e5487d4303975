"""Where each key of a TOML file is set: the line that a person looks for, whatever strings and comments hold."""

from __future__ import annotations

import json
import tomllib

from hypothesis import given
from hypothesis import strategies as st

from rnd.rules.toml_lines import lines_of_keys


def test_keys_and_tables_have_their_lines() -> None:
    text = 'name = "x"\n\n[limits]  # sizes\n  file_bytes = 1\ndeadlines . hold_s=2\n[deadlines]\nhold_s = 3\n'
    assert lines_of_keys(text) == {
        "name": 1,
        "limits": 3,
        "limits.file_bytes": 4,
        "limits.deadlines.hold_s": 5,
        "deadlines": 6,
        "deadlines.hold_s": 7,
    }


def test_what_strings_comments_and_lists_hold_is_no_key() -> None:
    text = (
        '# api = 1\nname = """\napi = 2\n[limits]\n\\"""api = 3"""\n'
        "allowed_roots = [\n  '/a # b',\n  \"[limits]\",\n]\nother = '''\napi = 4\n'''\n\"api\" = 5\napi_group = ''\n"
    )
    tomllib.loads(text)
    assert lines_of_keys(text) == {"name": 2, "allowed_roots": 6, "other": 10, "api_group": 14}


VALUES = st.one_of(
    st.integers().map(str),
    st.text(st.sampled_from('ab =[]#"\n')).map(lambda text: f"'''{text}'''"),
    st.text(st.sampled_from("ab =[]#'\"\\")).map(json.dumps),
)


@given(st.lists(st.tuples(st.sampled_from(["", "# a = 1", "[table{}]"]), VALUES), max_size=8))
def test_every_key_is_found_where_it_stands(entries: list[tuple[str, str]]) -> None:
    text = ""
    expected = {}
    for number, (line_before, value) in enumerate(entries):
        text += line_before.format(number) + "\n"
        expected[f"key{number}"] = text.count("\n") + 1
        text += f"key{number} = {value}\n"
    tomllib.loads(text)
    found = {name.rpartition(".")[2]: line for name, line in lines_of_keys(text).items()}
    assert {key: found.get(key) for key in expected} == expected
