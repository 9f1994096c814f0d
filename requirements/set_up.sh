#!/usr/bin/env bash
# Make or refresh .venv with everything that a target of the Makefile needs:
# requirements/set_up.sh demo|test|bench|docs|audit
# or .venv-oldest and .venv-bounds, where the oldest PyTorch is beside what Slicer ships, and beside the lower bounds of
# pyproject.toml: requirements/set_up.sh oldest
# Only this step uses a network. PyTorch comes from TORCH_INDEX, which has builds without CUDA (2 GB less), where that
# server answers, and else from wherever pip is told to look; an empty TORCH_INDEX means the latter.
set -euo pipefail
cd "$(dirname "$0")/.."

purpose=${1:?"say what for: demo, test, bench, docs, audit or oldest"}
constraints=requirements/constraints.txt
torch_index=${TORCH_INDEX-https://download.pytorch.org/whl/cpu}
venv=.venv
venv_python=$venv/bin/python

fail() {
    echo "$*" >&2
    exit 1
}

as_root_with_apt() {
    [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null
}

apt_install() {
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"; } </dev/null >/dev/null
}

find_python() {
    local candidate
    for candidate in python3.12 python3.11 python3.10 python3.13 python3; do
        # Asked to run, since a version manager leaves commands of versions that are switched off.
        if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "No Python from 3.10 to 3.13 was found: install one (on Debian and Ubuntu: apt install python3 python3-venv)."
}

# Slicer's Python, which is the last that PyTorch 2.2 is built for.
find_python_3_12() {
    local candidate
    for candidate in python3.12 "$(pyenv prefix 3.12 2>/dev/null)/bin/python" "$(uv python find 3.12 2>/dev/null)"; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.12 was not found: install it (with pyenv: pyenv install 3.12; with uv: uv python install 3.12)."
}

make_environment() {
    local python
    "$venv_python" -m pip --version >/dev/null 2>&1 && return
    python=$("${1:-find_python}")
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        local package
        package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        as_root_with_apt && apt_install "$package" ||
            fail "Python's venv module is missing: install it with 'apt install $package' and run make again."
    fi
    echo "Creating $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv" || fail "The virtual environment $venv could not be created: see the lines above."
}

use_environment() {
    venv=$1
    venv_python=$venv/bin/python
}

# These versions, and those of constraints.txt for everything that they do not name.
constrain_by() {
    local names
    names=$(sed -n 's/^\([a-z0-9-]*\)==.*/\1/p' "$1" | paste -sd '|')
    constraints=$venv/constraints.txt
    grep -vE "^($names)==" requirements/constraints.txt | cat "$1" - >"$constraints"
}

install_oldest() {
    use_environment .venv-oldest
    make_environment find_python_3_12
    constrain_by requirements/slicer.txt
    install_packages picture,train,report,test
    install_rendering_library
    install_qt_libraries
    # The other environment sees the packages of this one, PyTorch among them, behind its own.
    local packages
    packages=$(cd "$(echo $venv/lib/python*/site-packages)" && pwd)
    use_environment .venv-bounds
    make_environment find_python_3_12
    echo "$packages" >"$(echo $venv/lib/python*/site-packages)/oldest.pth"
    constrain_by requirements/bounds.txt
    pip_install --requirement requirements/bounds.txt
}

answers() {
    "$venv_python" -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=10)' "$1" 2>/dev/null
}

pip_install() {
    "$venv_python" -m pip install -qq --disable-pip-version-check --constraint "$constraints" "$@" ||
        fail "Installing Python packages failed (see the lines above): check the network connection or proxy and run make again."
}

install_packages() {
    local index=()
    if ! "$venv_python" -c 'import torch' 2>/dev/null && [ -n "$torch_index" ] && answers "$torch_index/torch/"; then
        index=(--extra-index-url "$torch_index")
    fi
    echo "Installing Python packages for $purpose (minutes, once)"
    pip_install torch setuptools "${index[@]}"
    # The environment's own setuptools builds the editable install, so that a later refresh needs no network.
    pip_install --no-build-isolation --editable ".[$1]"
}

install_rendering_library() {
    "$venv_python" - 2>/dev/null <<'PYTHON' && return
import ctypes
try:
    ctypes.CDLL("libEGL.so.1")
except OSError:
    ctypes.CDLL("libOSMesa.so.8")
PYTHON
    as_root_with_apt && apt_install libegl1 libgl1-mesa-dri ||
        echo "libEGL is missing, so tests that render are skipped: install it with 'apt install libegl1 libgl1-mesa-dri'." >&2
}

install_qt_libraries() {
    local packages="libegl1 libgl1 libglib2.0-0 libxkbcommon0 libdbus-1-3 libfontconfig1"
    "$venv_python" -c 'from PySide6 import QtTest, QtUiTools, QtWidgets' 2>/dev/null && return
    # shellcheck disable=SC2086
    as_root_with_apt && apt_install $packages ||
        echo "Qt lacks system libraries, so tests of the panel are left out: install them with 'apt install $packages'." >&2
}

install_browser() {
    command -v chromium >/dev/null && command -v chromedriver >/dev/null && return
    as_root_with_apt && apt_install chromium chromium-driver ||
        echo "Chromium or its driver is missing, so reports are not opened by tests: install them with 'apt install chromium chromium-driver'." >&2
}

[ "$purpose" = oldest ] || make_environment
case $purpose in
demo)
    install_packages picture
    touch .venv/ready-for-demo
    ;;
test)
    install_packages picture,train,report,test,lint
    install_rendering_library
    install_qt_libraries
    install_browser
    touch .venv/ready-for-demo .venv/ready-for-test
    ;;
bench)
    install_packages bench
    touch .venv/ready-for-bench
    ;;
docs)
    install_packages docs
    touch .venv/ready-for-docs
    ;;
audit)
    # In an environment of its own: what looks at the packages must not be among them.
    [ -x .venv-audit/bin/pip-audit ] || "$venv_python" -m venv --clear .venv-audit
    .venv-audit/bin/python -m pip install -qq --disable-pip-version-check --constraint "$constraints" cyclonedx-bom pip-audit ||
        fail "Installing the audit's packages failed (see the lines above): check the network connection or proxy."
    touch .venv/ready-for-audit
    ;;
oldest)
    install_oldest
    touch .venv-bounds/ready
    ;;
*) fail "set_up.sh knows demo, test, bench, docs, audit and oldest, not '$purpose'." ;;
esac
