"""What runs the commands of pages reads them as a person does, and sees where something else is printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.console_pages import Step, check_steps, is_as_shown, shell_in, steps_of

PAGE = """\
```toml flow.toml
name = "flow"
```

```console
$ cat flow.toml
name = "flow"
$ printf '%s\\n' "one
> two"
one
two
office$ true
```

```bash
not run
```
"""


def test_a_page_is_read_in_its_order(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE)
    assert steps_of(tmp_path / "page.md") == [
        Step(file="flow.toml", shown='name = "flow"\n'),
        Step(command="cat flow.toml", shown='name = "flow"\n'),
        Step(command="printf '%s\\n' \"one\ntwo\"", shown="one\ntwo\n"),
        Step(command="true", machine="office"),
    ]


@pytest.mark.parametrize(
    ("output", "shown", "same"),
    [
        ("one\n", "one\n", True),
        ("one\n", "two\n", False),
        ("one\ntwo\n", "one\n", False),
        ("", "one\n", False),
        ("one\ntwo\nthree\n", "one\n...\n", True),
        ("two\nthree\n", "one\n...\n", False),
        ("job 1 took 0.3s, 2s ago\n", "job 1 took 12s, now\n", True),
        ("job 1 took 0.3s\n", "job 2 took 0.3s\n", False),
        ("2 jobs, 20 B\n", "2 jobs, 21 B\n", False),
        ("execution 1: count RUNNING\nexecution 1 COMPLETED in 2s\n", "execution 1 COMPLETED in 9s\n", True),
        ("execution 1 FAILED after 2s\n", "execution 1 COMPLETED in 9s\n", False),
        (f"peer rn{'a' * 56}\n", f"peer rn{'b' * 56}\n", True),
    ],
)
def test_only_what_differs_from_run_to_run_is_overlooked(output: str, shown: str, same: bool) -> None:
    assert is_as_shown(output, shown) == same


def test_a_shell_keeps_what_a_command_has_set_and_takes_both_streams(tmp_path: Path) -> None:
    with shell_in(tmp_path) as shell:
        assert shell.run("export WORD=kept; mkdir below; cd below") == ""
        assert shell.run('echo "$WORD"; pwd; echo wrong >&2; false') == f"kept\n{tmp_path}/below\nwrong\n"
        assert shell.run("read -r line || echo nothing to read") == "nothing to read\n"


def test_a_command_that_prints_something_else_is_named(tmp_path: Path) -> None:
    steps = [Step(command="true"), Step(command="echo 1", shown="1\n"), Step(command="echo 2", shown="3\n"), Step()]
    with shell_in(tmp_path) as shell, pytest.raises(AssertionError, match="echo 2"):
        check_steps(steps, tmp_path, {"": shell})
