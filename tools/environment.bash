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

# make_environment NAME WHAT: set $environment to a virtual environment with WHAT (a pip requirement of this project)
# installed. It is kept until setup.cfg or the interpreter changes. TOOLS_ENVIRONMENT names one to use as it is.
make_environment() {
    local name=$1 what=$2 interpreter key
    if [[ -n ${TOOLS_ENVIRONMENT:-} ]]; then
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
        "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$what"
        touch -- "$environment/.complete"
        # Older ones of the same name are of no use any more.
        find .tools -mindepth 1 -maxdepth 1 -name "$name-*" ! -name "$name-$key" -mmin +60 -exec rm -rf -- {} +
    fi
}
