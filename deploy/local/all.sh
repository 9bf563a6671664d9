#!/usr/bin/env bash
# All servers that Indaco's tests can use, on this machine: RabbitMQ, MongoDB's protocol, OpenBao, OpenID Connect, Docker.
#
#   all.sh start | stop | status | env | wipe [SERVER...]    (default: rabbitmq mongo openbao oidc docker)
#   all.sh run SERVER... -- COMMAND [ARGUMENT...]            tell the command where they are; stop, after it, those that were stopped before
#
# eval "$(deploy/local/all.sh env)" tells the tests where they are. "status" fails if one of them is not running.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
SERVERS=(rabbitmq mongo openbao oidc docker)

# each ACTION SERVER...: one after the other; a failure does not keep the rest from being stopped or looked at
each() {
  local action=$1 server failed=0
  shift
  for server; do
    "$HERE/$server.sh" "$action" || failed=1
  done
  return "$failed"
}

usage() {
  sed -n '2,/^set -euo/p' "$0" | sed '$d; s/^# \{0,1\}//'
  exit 2
}

# run SERVER... -- COMMAND...: a server that cannot run here is left out; a command that needs it says so
STARTED=()
run() {
  local server status
  SERVERS=()
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    SERVERS+=("$1")
    shift
  done
  [ $# -gt 1 ] || usage
  trap 'each stop "${STARTED[@]}" >&2' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  for server in "${SERVERS[@]}"; do
    status=0
    "$HERE/$server.sh" status >/dev/null 2>&1 || status=$?
    [ "$status" -ne 3 ] || STARTED+=("$server")
    "$HERE/$server.sh" start >&2 || true
  done
  eval "$(each env "${SERVERS[@]}" || true)"
  "${@:2}"
}

action=${1:-}
[ $# -lt 2 ] || SERVERS=("${@:2}")
case $action in
  start)
    for server in "${SERVERS[@]}"; do "$HERE/$server.sh" start; done
    ;;
  run) run "${@:2}" ;;
  stop | status | env | wipe) each "$action" "${SERVERS[@]}" ;;
  *) usage ;;
esac
