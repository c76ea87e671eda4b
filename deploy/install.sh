#!/usr/bin/env bash
# Installs tagger as a service on Raspberry Pi OS (64 bits), Debian or Ubuntu. May be run again: it then installs what
# this checkout holds now, and restarts the service. docs/deployment.md says what it does.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: sudo deploy/install.sh [OPTION]...

  --extras LIST     install tagger[LIST] beside the live page: broker, openvino, torch, parquet, plot
                    [default: those of the last time; the first time torch where there is an NVIDIA GPU, else none]
  --wheel FILE      install this wheel instead of the checkout that the script is in
  --no-start        neither enable nor start the service
  --uninstall       remove everything but your data in /var/lib/tagger
  --purge           remove that, too
  --help            show this
TEXT
}

fail() { # MESSAGE [EXIT_CODE]
    echo "Error: $1" >&2
    exit "${2:-1}"
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here app=/opt/tagger data=/var/lib/tagger unit=/etc/systemd/system/tagger.service command=/usr/local/bin/tagger
readonly gpu=/etc/systemd/system/tagger.service.d/50-gpu.conf

action=install extras=as-before wheel='' start=yes
while [ $# -gt 0 ]; do
    case $1 in
        --extras | --wheel)
            [ $# -ge 2 ] || fail "$1 needs a value" 2
            if [ "$1" = --extras ]; then extras=$2; else wheel=$(realpath -- "$2"); fi
            shift
            ;;
        --no-start) start=no ;;
        --uninstall) action=uninstall ;;
        --purge) action=purge ;;
        --help | -h) usage && exit ;;
        *) usage >&2 && fail "$1: there is no such option" 2 ;;
    esac
    shift
done
[ "$(id -u)" = 0 ] || fail "this must run as root: sudo $0" 2

runs_systemd() { [ -d /run/systemd/system ]; } # not in a chroot, a container or an image that is being made

is_ours() { # FILE: whether this script wrote it, or nobody did
    [ ! -e "$1" ] || grep -qxF '# tagger, of the service.' "$1"
}

# --- uninstall ---------------------------------------------------------------------------------------------------------

uninstall() {
    if runs_systemd; then
        systemctl disable --now --quiet tagger 2>/dev/null || true
    else
        systemctl disable --quiet tagger 2>/dev/null || true
    fi
    if [ -s "$app/packages" ]; then
        local packages
        mapfile -t packages <"$app/packages"
        apt-mark auto "${packages[@]}" >/dev/null 2>&1 || true
        echo "packages that came with it are removed by 'sudo apt autoremove', unless others need them: ${packages[*]}"
    fi
    rm -rf "$app" "$unit" "$gpu"
    rmdir "$(dirname "$gpu")" 2>/dev/null || true # stays, if it holds files of yours
    if is_ours "$command"; then rm -f "$command"; fi
    if runs_systemd; then systemctl daemon-reload; fi
    if [ "$action" = purge ]; then rm -rf "$data"; fi
    if getent passwd tagger >/dev/null; then
        # The next user who is given the same number must not own the recordings of this one.
        if [ -d "$data" ]; then chown -R root:root "$data" && chmod 0700 "$data"; fi
        userdel tagger
    fi
    if getent group tagger >/dev/null; then groupdel tagger; fi
    if [ -d "$data" ]; then echo "removed; your data are still in $data"; else echo "removed"; fi
}

if [ "$action" != install ]; then
    uninstall
    exit
fi

# --- what the machine must have ------------------------------------------------------------------------------------------

command -v apt-get >/dev/null || fail "this is no Debian, Ubuntu or Raspberry Pi OS: there is no apt-get" 2
case $(dpkg --print-architecture) in
    amd64 | arm64) ;;
    *) fail "$(dpkg --print-architecture): ONNX Runtime needs a 64-bit system; install the 64-bit Raspberry Pi OS" 2 ;;
esac
if [ -z "$wheel" ]; then
    [ -f "$here/../pyproject.toml" ] || fail "$here: run this script inside its checkout, or name a --wheel" 2
    what=$(cd "$here/.." && pwd)
else
    [ -f "$wheel" ] || fail "$wheel: there is no such file" 2
    what=$wheel
fi
[ -z "$(find "$app" -maxdepth 0 -type l 2>/dev/null)" ] || fail "$app: is a link" 2
is_ours "$command" || fail "$command: belongs to something else; remove it first" 2

packages=()
for package in python3 python3-venv libportaudio2 ca-certificates; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || packages+=("$package")
done
if [ ${#packages[@]} -gt 0 ]; then
    echo "apt: ${packages[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq || echo "apt-get update failed; going on with the lists that are there" >&2
    apt-get install -qq -y --no-install-recommends "${packages[@]}" >/dev/null
fi
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "tagger needs Python 3.11, this system has $(python3 --version): upgrade to Debian 12 or newer" 2

# --- the user, and the folder of its data --------------------------------------------------------------------------------

if ! getent passwd tagger >/dev/null; then
    useradd --system --user-group --home-dir "$data" --no-create-home --shell /usr/sbin/nologin --groups audio tagger
fi
install -d -m 0750 -o tagger -g tagger "$data"
chown -R tagger:tagger "$data" # after an uninstall it is root's

# --- the program: beside the one that runs, which goes on if this fails -----------------------------------------------------

install -d -m 0755 "$app"
if [ "$extras" = as-before ]; then
    extras=''
    if [ -e "$app/extras" ]; then
        extras=$(cat "$app/extras")
    elif [ -e /proc/driver/nvidia/version ] || [ -e /dev/nvidiactl ] || [ -e /dev/nvhost-gpu ]; then
        extras=torch
    fi
fi
printf '%s\n' "${packages[@]}" | sed '/^$/d' >>"$app/packages"
release=$(mktemp -d "$app/venv-XXXXXX")
trap 'rm -rf "$release"' EXIT
chmod 0755 "$release"
python3 -m venv "$release"
with="web${extras:+,$extras}" # the live page is there for whoever turns it on
echo "pip: tagger[$with]"
"$release/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir "tagger[$with] @ file://$what"
"$release/bin/tagger" --version
ln -sfn "$release" "$app/next"
mv -T "$app/next" "$app/current"
echo "$extras" >"$app/extras"
trap - EXIT
for old in "$app"/venv-*; do
    if [ "$old" != "$release" ]; then rm -rf "$old"; fi
done

# --- the command, for root and everybody ----------------------------------------------------------------------------------

cat >"$command" <<'TEXT'
#!/bin/sh
# tagger, of the service.
# As root it acts for the service: same user, same settings, same models.
if [ "$(id -u)" = 0 ]; then
    export TAGGER_HOME="${TAGGER_HOME:-/var/lib/tagger}"
    exec setpriv --reuid tagger --regid tagger --init-groups env HOME=/var/lib/tagger /opt/tagger/current/bin/tagger "$@"
fi
exec /opt/tagger/current/bin/tagger "$@"
TEXT
chmod 0755 "$command"

# --- the service ---------------------------------------------------------------------------------------------------------

install -m 0644 "$here/tagger.service" "$unit"
if [[ ",$extras," == *,torch,* ]]; then
    install -D -m 0644 "$here/gpu.conf" "$gpu"
else
    rm -f "$gpu"
fi
if runs_systemd; then systemctl daemon-reload; fi
if [ "$start" = no ]; then
    echo "installed; next: sudo tagger config init && sudo systemctl enable --now tagger"
elif [ ! -e "$data/tagger.toml" ] && ! { [ -t 0 ] && "$command" config init; }; then
    echo "installed, not started; next: sudo tagger config init && sudo systemctl enable --now tagger"
else
    systemctl enable --quiet tagger
    if runs_systemd; then systemctl restart tagger; fi
    echo "installed, and started with the machine; look at it: systemctl status tagger"
fi
