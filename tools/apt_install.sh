#!/usr/bin/env bash
# Install Debian packages where we may (as root, or with a sudo that asks nothing), or say what to type.
#   apt_install.sh PACKAGE...
# Exit status 1: they were not installed.
set -euo pipefail
if ! command -v apt-get >/dev/null 2>&1; then
    echo "Missing, and this is not a Debian system; please install what corresponds to: $*" >&2
    exit 1
fi
sudo=""
if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        sudo="sudo -n"
    else
        echo "Missing: $*. Please run: sudo apt-get install $*" >&2
        exit 1
    fi
fi
echo "== installing with apt-get: $* ==" >&2
# Behind sudo: it would not pass the variable on.
apt="$sudo env DEBIAN_FRONTEND=noninteractive apt-get"
$apt update -qq >&2 || true
$apt install -y -qq --no-install-recommends "$@" >/dev/null || {
    echo "apt-get could not install: $*" >&2
    exit 1
}
