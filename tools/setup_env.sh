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
    full) extras=demo,fast,plot,mic,train,dev ;;
    *) echo "setup_env.sh: level must be runtime or full, not '$level'" >&2; exit 2 ;;
esac
echo "== installing streamguard[$extras] into $venv (about a minute; with torch two) =="
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv" || {
    echo "No virtual environment could be made. On Debian: apt-get install python3-venv" >&2
    exit 1
}
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$extras]"
