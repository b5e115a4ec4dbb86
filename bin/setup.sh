# Sourced by the commands beside it: finds the repository, and sees to the system packages that a build needs.
# shellcheck shell=bash
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s: %s\n' "$command" "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

command -v swift >/dev/null ||
    fail "Swift is not on the PATH; install Swift 6.3 or newer from https://www.swift.org/install/linux"

# Installs Debian packages, as root or with sudo where that asks nothing; says what to type where it can't.
install_packages() {
    say "installing $*"
    local as=()
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null || fail "system packages are missing; please run: sudo apt-get install $*"
        as=(sudo -n)
    fi
    command -v apt-get >/dev/null || fail "system packages are missing; please install what Debian calls: $*"
    { "${as[@]}" apt-get update -qq && DEBIAN_FRONTEND=noninteractive "${as[@]}" apt-get install -y -qq "$@"; } >&2 ||
        fail "could not install $*; please run: sudo apt-get install $*"
}

# The development files of SQLite and libxml2 are all that a build needs beside Swift.
need_build_packages() {
    local missing=()
    [ -e /usr/include/sqlite3.h ] || missing+=(libsqlite3-dev)
    [ -e /usr/include/libxml2/libxml/parser.h ] || missing+=(libxml2-dev)
    [ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"
    # SwiftPM finds libxml2's flags in its .pc file; without the pkg-config program it has to be told the folder.
    local folder
    for folder in /usr/lib/*-linux-gnu*/pkgconfig; do
        export PKG_CONFIG_PATH="${PKG_CONFIG_PATH:+$PKG_CONFIG_PATH:}$folder"
    done
}
