#!/usr/bin/env bash
# A Docker engine, the machine image of the docker driver and images of services, for tests and for running Indaco on
# this machine.
#
#   docker.sh start | stop | status | env | wipe
#
# An engine that answers already (at DOCKER_HOST, else at the usual socket) is used as it is and never stopped.
# Else, when root, Debian's docker.io is installed and an engine started with its data in the state folder.
# "stop" ends that engine, and with it what runs in it.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

FOLDER=$INDACO_LOCAL/docker
LOG=$FOLDER/engine.log
IMAGE=${INDACO_VM_IMAGE:-indaco/vm:12}
IMAGES=$REPOSITORY/deploy/docker

answers() { docker info >/dev/null 2>&1; }

engine() {
  ! answers || return 0
  [ -z "${DOCKER_HOST:-}" ] || die "no Docker engine answers at DOCKER_HOST"
  is_root || die "no Docker engine answers; start one, or run this as root"
  need dockerd docker.io iptables
  need iptables iptables
  ! answers || return 0
  launch "$FOLDER/engine" "$LOG" dockerd --data-root "$FOLDER/data" --pidfile "$FOLDER/dockerd.pid" --log-level warn
  await "$FOLDER/engine" "$LOG" 60 answers
  say "engine started"
}

start() {
  state_folder docker
  engine
  "$IMAGES/vm-image.sh"
  "$IMAGES/app-images.sh"
  say "up, image $IMAGE"
}

stop() {
  if pid_of "$FOLDER/engine" >/dev/null; then
    terminate "$FOLDER/engine" 40
    say stopped
  else
    say "no engine of ours to stop"
  fi
}

status() {
  answers || { echo "docker: stopped"; exit 3; }
  docker image inspect "$IMAGE" indaco/hello:1 indaco/jupyter:1 >/dev/null 2>&1 || { echo "docker: an image is missing"; exit 1; }
  echo "docker: running, engine $(docker version -f '{{.Server.Version}}'), image $IMAGE"
}

case ${1:-} in start | stop | wipe) alone "$@" ;; esac
case ${1:-} in
  start) start ;;
  stop) stop ;;
  status) status ;;
  env)
    echo "export INDACO_TEST_DOCKER=${DOCKER_HOST:-unix:///var/run/docker.sock}"
    echo "export INDACO_TEST_VM_IMAGE=$IMAGE"
    ;;
  wipe) stop && remove_state "$FOLDER" ;;
  *) usage ;;
esac
