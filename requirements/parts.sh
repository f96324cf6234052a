#!/bin/sh
# Makes sure that what pip cannot bring is here: `requirements/parts.sh demo` or `test`.
# As root on Debian it installs what is missing; otherwise one line says what to install, exit 2.
set -eu

PYTHON=${PYTHON:-python3}
firmware=/usr/share/firmware-microbit-micropython/firmware.hex
missing=

need() { # need PACKAGE COMMAND...: the Debian package is missing when the command fails
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}

if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "belayd needs Python 3.11 or newer as $PYTHON; name another with PYTHON=..." >&2
    exit 2
fi

look() {
    missing=
    need python3-venv "$PYTHON" -c 'import ensurepip, venv'
    # the simulated board's interpreter comes from pip only for these; elsewhere QEMU is the board
    case $1-$(uname -sm) in
        demo-"Linux x86_64" | demo-"Darwin arm64") ;;
        *)
            need qemu-system-arm command -v qemu-system-arm
            need firmware-microbit-micropython test -r "$firmware"
            ;;
    esac
    if [ "$1" = test ]; then
        need prometheus command -v promtool
        need git command -v git
    fi
}

look "$1"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing:$missing; on Debian: sudo apt-get install --no-install-recommends$missing" >&2
    exit 2
fi

# Debian starts a Prometheus that listens on every interface; the tests want the program only.
quiet=
case $missing in
    *prometheus*) [ ! -d /run/systemd/system ] || quiet=prometheus.service ;;
esac
[ -z "$quiet" ] || systemctl mask --quiet "$quiet"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086  # a list of words
{ apt-get update -q && apt-get install -q -y --no-install-recommends $missing; } </dev/null >&2 || status=$?
if [ -n "$quiet" ]; then
    systemctl unmask --quiet "$quiet"
    systemctl disable --quiet "$quiet" || true
fi
[ -z "${status:-}" ] || exit "$status"

look "$1"
[ -z "$missing" ] || { echo "still missing after apt-get install:$missing" >&2; exit 2; }
