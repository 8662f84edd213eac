#!/usr/bin/env bash
# Make the virtual environment and install streamguard into it, with the exact versions that were tested.
#   setup_env.sh PYTHON VENV runtime|full
set -euo pipefail
python=$1 venv=$2 level=$3

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "streamguard needs Python 3.11 or newer; $("$python" --version) was found. Try: make PYTHON=python3.11 ..." >&2
    exit 1
}
case $level in
    runtime) extras=demo,fast,plot ;;
    full) extras=demo,fast,plot,mic,codecs,srtp,train,dev ;;
    *) echo "setup_env.sh: level must be runtime or full, not '$level'" >&2; exit 2 ;;
esac

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    # Half made (venv leaves bin/python behind when it fails), or its Python is gone.
    if [ -e "$venv/pyvenv.cfg" ]; then
        echo "== $venv has no working pip: making it anew =="
        rm -rf "$venv"
    fi
    # Debian keeps ensurepip, without which venv fails, in a package of its own.
    "$python" -c 'import ensurepip' 2>/dev/null || bash "$(dirname "$0")/apt_install.sh" \
        "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" || exit 1
    "$python" -m venv "$venv" || {
        echo "No virtual environment could be made in $venv: see above." >&2
        exit 1
    }
fi

pip() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt "$@"; }
echo "== installing streamguard[$extras] into $venv (about a minute; with torch two) =="
pip -e ".[$extras]"
