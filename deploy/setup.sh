#!/bin/sh
# Sets up what `make` needs, and does nothing where nothing changed.
#
#   deploy/setup.sh run              .venv with requirements.txt, Pango for PDFs, a writable var/
#   deploy/setup.sh dev              the same with requirements-dev.txt
#   deploy/setup.sh programs NAME…   programs from Debian's packages (postgres redis-server nginx …)
#   deploy/setup.sh peer             the charger of another implementation that tests/test_peer.py runs
#
# Whatever goes wrong is told in one sentence that says what to do.
set -eu
cd "$(dirname "$0")/.."
VENV=.venv
VAR_DIR=${VAR_DIR:-var}
PANGO="libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0 fonts-dejavu-core"

say() { printf '%s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# --- Debian's packages ------------------------------------------------------------------------

as_root() {
    if [ "$(id -u)" = 0 ]; then env "$@"; else sudo -n env "$@"; fi
}

may_install() {
    command -v apt-get >/dev/null 2>&1 || return 1
    [ "$(id -u)" = 0 ] || sudo -n true >/dev/null 2>&1
}

# Installs packages quietly and without starting the services they bring; the output is shown only
# when it fails.
install_packages() {
    say "Installing from Debian's packages: $*"
    log=$(mktemp)
    policy=/usr/sbin/policy-rc.d
    made_policy=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
        made_policy=1
    fi
    status=0
    {
        as_root apt-get update -q &&
            as_root DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
    } </dev/null >"$log" 2>&1 || status=$?
    [ -z "$made_policy" ] || as_root rm -f "$policy"
    [ "$status" = 0 ] || tail -n 30 "$log" >&2
    rm -f "$log"
    return "$status"
}

package_of() {
    case $1 in
        postgres) echo postgresql ;;
        pdftoppm) echo poppler-utils ;;
        node) echo nodejs ;;
        promtool) echo prometheus ;;
        *) echo "$1" ;;
    esac
}

has_program() {
    case $1 in
        postgres) ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 ||
            command -v postgres >/dev/null 2>&1 ;;
        *) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null 2>&1 ;;
    esac
}

programs() {
    missing=
    for name in "$@"; do
        has_program "$name" || missing="$missing $(package_of "$name")"
    done
    [ -n "$missing" ] || return 0
    # shellcheck disable=SC2086  # a list of package names
    if may_install; then
        install_packages $missing || die "Could not install$missing: see apt-get's words above."
    else
        say "Missing programs; to install them run:  sudo apt-get install$missing"
        return 1
    fi
}

# --- Python -----------------------------------------------------------------------------------

# Prints the first Python that runs and is new enough (a pyenv shim may exist and yet not run).
find_python() {
    for name in ${PYTHON:-} python3.13 python3.14 python3.12 python3; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; then
            echo "$name"
            return 0
        fi
    done
    return 1
}

make_venv() {
    if "$VENV/bin/python" -c 'import pip, sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
        return 0
    fi
    python=$(find_python) || die "No Python 3.12 or newer found: install one" \
        "(Debian 13, Ubuntu 24.04 and newer: sudo apt-get install python3 python3-venv;" \
        "older systems: pyenv install 3.13), then run make again."
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    say "Creating $VENV with Python $version"
    rm -rf "$VENV"
    if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        may_install && install_packages "python$version-venv" ||
            die "Python $version has no venv module: run  sudo apt-get install python$version-venv"
    fi
    "$python" -m venv "$VENV" || die "Could not create $VENV: make sure you own this folder."
}

requirements() {
    file=$1
    stamp=$VENV/.installed-$(basename "$file" .txt)
    wanted=$(cat requirements*.txt | cksum)
    make_venv
    [ "$(cat "$stamp" 2>/dev/null || true)" != "$wanted" ] || return 0
    say "Installing $file (the first time takes a minute or two)"
    "$VENV/bin/python" -m pip install -qq --no-input --disable-pip-version-check -r "$file" ||
        die "pip could not install $file: see its words above; is the network there?"
    printf '%s\n' "$wanted" >"$stamp"
    printf '%s\n' "$wanted" >"$VENV/.installed-requirements"
}

# WeasyPrint draws invoices with Pango, a system library.
pango() {
    [ ! -e "$VENV/.pango" ] || return 0
    # shellcheck disable=SC2086  # a list of package names
    if ! "$VENV/bin/python" -c 'import weasyprint' >/dev/null 2>&1; then
        if may_install && install_packages $PANGO && "$VENV/bin/python" -c 'import weasyprint'; then
            :
        else
            say "Invoices cannot be drawn without Pango; run:  sudo apt-get install $PANGO"
            return 0
        fi
    fi
    : >"$VENV/.pango"
}

# As tests/peer/package-lock.json pins it; nothing of it is executed while it is installed.
peer() {
    stamp=tests/peer/node_modules/.installed
    wanted=$(cksum <tests/peer/package-lock.json)
    [ "$(cat "$stamp" 2>/dev/null || true)" != "$wanted" ] || return 0
    command -v npm >/dev/null 2>&1 || die "npm is missing: sudo apt-get install nodejs npm"
    say "Installing tests/peer"
    npm ci --prefix tests/peer --ignore-scripts --no-audit --no-fund --silent ||
        die "npm could not install tests/peer: see its words above; is the network there?"
    printf '%s\n' "$wanted" >"$stamp"
}

writable() {
    mkdir -p "$VAR_DIR" 2>/dev/null || true
    if [ ! -d "$VAR_DIR" ] || [ ! -w "$VAR_DIR" ]; then
        die "No permission to write in $VAR_DIR: run as the owner of this folder," \
            "or set VAR_DIR to a folder of your own."
    fi
}

case ${1:-} in
    run) writable; requirements requirements.txt; pango ;;
    dev) writable; requirements requirements-dev.txt; pango ;;
    programs) shift; programs "$@" ;;
    peer) peer ;;
    *) die "usage: deploy/setup.sh run | dev | programs NAME… | peer" ;;
esac
