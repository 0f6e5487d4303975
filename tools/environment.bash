# Sourced by tools/test and tools/quickstart: virtual environments below .tools/, made once and kept.
# shellcheck shell=bash

# python_that_fits: print the first Python that is new enough. PYTHON names one.
python_that_fits() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v -- "$candidate"
            return
        fi
    done
    echo "rnd needs Python 3.11 or newer. On Debian or Ubuntu: apt-get install python3 python3-venv" >&2
    return 1
}

# lowest_versions INTERPRETER: print what setup.cfg needs at run time, each pinned to the lowest version it allows.
lowest_versions() {
    "$1" - <<'PYTHON'
import configparser
import re
import sys

settings = configparser.ConfigParser()
settings.read("setup.cfg", encoding="utf-8")
for requirement in settings["options"]["install_requires"].split():
    bound = re.fullmatch(r"([\w.-]+)>=([\w.]+)(,<[\w.]+)?", requirement)
    if bound is None:
        sys.exit(f"setup.cfg: {requirement} does not start with its lowest version, as in name>=1.2")
    print(f"{bound[1]}=={bound[2]}")
PYTHON
}

# make_tools NAME REQUIREMENT...: set $environment to a virtual environment with these and nothing of this project, kept for a day.
make_tools() {
    local name=$1 key
    shift
    key=$({ echo "$@"; "$(python_that_fits)" -VV; date +%F; } | sha256sum | cut -c1-12)
    environment="$PWD/.tools/$name-$key"
    mkdir -p .tools
    echo '*' >.tools/.gitignore
    if [[ ! -e $environment/.complete ]]; then
        rm -rf -- "$environment"
        "$(python_that_fits)" -m venv -- "$environment"
        "$environment/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
        touch -- "$environment/.complete"
        find .tools -mindepth 1 -maxdepth 1 -name "$name-*" ! -name "$name-$key" -mmin +60 -exec rm -rf -- {} +
    fi
}

# make_environment NAME WHAT [newest|lowest]: set $environment to a virtual environment with WHAT (a pip requirement of
# this project) installed, with dependencies as new as pip finds them, or as old as setup.cfg allows. It is kept until
# setup.cfg or the interpreter changes. TOOLS_ENVIRONMENT names one to use as it is in place of the newest.
make_environment() {
    local name=$1 what=$2 versions=${3:-newest} interpreter key
    if [[ -n ${TOOLS_ENVIRONMENT:-} && $versions == newest ]]; then
        environment=$TOOLS_ENVIRONMENT
        return
    fi
    interpreter=$(python_that_fits)
    if ! "$interpreter" -c 'import ensurepip, venv' 2>/dev/null; then
        if [[ ${CI:-} && $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
            DEBIAN_FRONTEND=noninteractive apt-get update -qq
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv
        else
            echo "Python's venv is missing. On Debian or Ubuntu: sudo apt-get install python3-venv" >&2
            return 1
        fi
    fi
    # The project's own path is part of the key: the project is installed in place, and folders move.
    key=$({ cat setup.cfg; "$interpreter" -VV; command -v -- "$interpreter"; pwd; } | sha256sum | cut -c1-12)
    mkdir -p .tools
    echo '*' >.tools/.gitignore
    environment="$PWD/.tools/$name-$key"
    if [[ ! -e $environment/.complete ]]; then
        echo "Making a virtual environment in .tools/$name-$key (once) ..." >&2
        rm -rf -- "$environment"
        "$interpreter" -m venv -- "$environment"
        local constraints=()
        if [[ $versions == lowest ]]; then
            lowest_versions "$interpreter" >"$environment/lowest.txt"
            constraints=(--constraint "$environment/lowest.txt")
        fi
        "$environment/bin/python" -m pip install --quiet --disable-pip-version-check \
            "${constraints[@]}" --editable "$what"
        touch -- "$environment/.complete"
        # Older ones of the same name are of no use any more.
        find .tools -mindepth 1 -maxdepth 1 -name "$name-*" ! -name "$name-$key" -mmin +60 -exec rm -rf -- {} +
    fi
}
