#!/usr/bin/env bash
# Build the image of which the docker driver makes "virtual machines": a small Debian with an SSH server, Python (for
# Ansible), sudo, and vm-init in the place of cloud-init. It is made from Debian packages; no image is pulled.
# A place that shares its engine runs the mediator from it too (mediator.py), for which machines have a command `docker`.
#
#   vm-image.sh [--force]    does nothing where the image exists as this script makes it, unless forced
#
# INDACO_VM_IMAGE (indaco/vm:12)  INDACO_VM_SUITE (bookworm)  INDACO_VM_MIRROR (debootstrap's own choice)
# Needs root and an engine that answers `docker info`; installs debootstrap. Takes about a minute.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../local/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../local/lib.sh"

IMAGE=${INDACO_VM_IMAGE:-indaco/vm:12}
SUITE=${INDACO_VM_SUITE:-bookworm}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
EDITION=3 # of the image: an older one is made again
INCLUDE=openssh-server,python3-minimal,python3-apt,python3-yaml,ca-certificates,iproute2,sudo,procps,tini

# populate ROOT: a minimal Debian in the folder
populate() {
  say "debootstrap $SUITE (about a minute)"
  debootstrap --variant=minbase --include="$INCLUDE" "$SUITE" "$1" ${INDACO_VM_MIRROR:+"$INDACO_VM_MIRROR"} \
    >"$1.log" 2>&1 || { tail -n 5 "$1.log" >&2; die "debootstrap failed"; }
}

# trim ROOT: what is of no use in a machine that lives for minutes, and what must not be the same in two machines
trim() {
  rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/* "$1"/var/log/*.log \
    "$1"/usr/share/{doc,man,locale}/* "$1"/etc/ssh/ssh_host_*
  : >"$1/etc/machine-id"
}

# furnish ROOT: logging in by key only, and the first process
furnish() {
  printf '%s\n' 'PasswordAuthentication no' 'PermitRootLogin prohibit-password' 'UseDNS no' \
    >"$1/etc/ssh/sshd_config.d/vm.conf"
  install -m 755 "$HERE/vm-init" "$1/usr/local/sbin/vm-init"
  install -d "$1/usr/local/lib/indaco"
  install -m 755 "$HERE/mediator.py" "$HERE/docker_command.py" "$1/usr/local/lib/indaco/"
}

build() {
  local work former
  is_root || die "debootstrap needs root"
  docker info >/dev/null 2>&1 || die "no Docker engine answers (deploy/local/docker.sh start starts one)"
  state_folder .
  need debootstrap debootstrap
  work=$(mktemp -d /var/tmp/indaco-vm-image.XXXXXX) # not /tmp, which may forbid devices and programs
  # shellcheck disable=SC2064
  trap "rm -rf --one-file-system '$work'" EXIT
  mkdir "$work/root"
  populate "$work/root"
  trim "$work/root"
  furnish "$work/root"
  former=$(docker image inspect -f '{{.Id}}' "$IMAGE" 2>/dev/null || true)
  tar -C "$work/root" --numeric-owner -c . | docker import \
    --change 'ENTRYPOINT ["/usr/bin/tini", "--", "/usr/local/sbin/vm-init"]' \
    --change 'EXPOSE 22' \
    --change 'LABEL org.opencontainers.image.title="Indaco virtual machine"' \
    --change "LABEL org.opencontainers.image.version=\"debian-$SUITE\"" \
    --change "LABEL dev.indaco.vm-image=\"$EDITION\"" \
    - "$IMAGE" >/dev/null
  [ -z "$former" ] || docker image rm "$former" >/dev/null 2>&1 || true # stays while a container uses it
  say "built $IMAGE, $(($(docker image inspect -f '{{.Size}}' "$IMAGE") / 1000000)) MB"
}

# an image of somebody else's making is left alone
is_current() {
  local edition
  edition=$(docker image inspect -f '{{index .Config.Labels "dev.indaco.vm-image"}}' "$IMAGE" 2>/dev/null) || return 1
  [ -z "$edition" ] || [ "$edition" = "$EDITION" ]
}

case ${1:-} in
  '') is_current || build ;;
  --force) build ;;
  *) usage ;;
esac
