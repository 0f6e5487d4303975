"""A short workflow of a peer that was just installed, as a script for bash: its argument is a folder of its own, its output has `SOME WORDS`."""

from __future__ import annotations

WORKFLOW = """\
format = "rnd.workflow/1"
name = "shout"

[[nodes]]
name = "text"
service_name = "text"

[[nodes]]
name = "shout"
service_name = "shout"

[[connections]]
from = "text"
from_interface_type = "STDOUT"
to = "shout"
to_interface_type = "STDIN"

[[connections]]
from = "shout"
from_interface_type = "STDOUT"
destination_file_name = "loud"
"""


def short_run(command: str = "rnd") -> str:
    """Return the script; `command` is how rnd is called there. It leaves no service and no workflow."""
    return f"""\
set -e
mkdir -p "$1"
cd "$1"
export RND_DATA_DIR=/var/lib/rnd
echo some words >text
cat >shout.toml <<'END'
{WORKFLOW}END
{command} service add data text text -q
{command} service add standalone shout /bin/sh -q -- -c 'tr a-z A-Z'
{command} run shout.toml -o results
cat results/loud*
{command} workflow rm shout
{command} service rm text shout
"""
