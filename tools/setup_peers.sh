#!/usr/bin/env bash
# Install the programs that the demo or the tests talk to, where they are missing and we may.
#   setup_peers.sh demo|test
# What cannot be installed is named; the demo says what it lacks, and tests that need it are skipped
# (in CI they fail).
set -euo pipefail
case ${1:-} in
    demo) wanted="espeak-ng:espeak-ng flite:flite aplay:alsa-utils" ;;
    test) wanted="mosquitto:mosquitto mosquitto_sub:mosquitto-clients ffmpeg:ffmpeg
        gst-launch-1.0:gstreamer1.0-tools espeak-ng:espeak-ng flite:flite aplay:alsa-utils
        pulseaudio:pulseaudio pactl:pulseaudio-utils openssl:openssl tshark:tshark
        sipp:sip-tester baresip:baresip text2wave:festival" ;;
    *) echo "usage: setup_peers.sh demo|test" >&2; exit 2 ;;
esac
missing=()
for pair in $wanted; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing+=("${pair##*:}")
done
if [ "$1" = test ]; then
    # Libraries, plugins and voices have no command of their own to look for.
    for package in libportaudio2 libasound2-plugins gstreamer1.0-plugins-base gstreamer1.0-plugins-good \
        gstreamer1.0-plugins-bad gstreamer1.0-libav libspeex1 festvox-kallpc16k; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
fi
[ ${#missing[@]} -eq 0 ] || bash "$(dirname "$0")/apt_install.sh" "${missing[@]}" || true
