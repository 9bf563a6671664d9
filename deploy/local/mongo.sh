#!/usr/bin/env bash
# A server that speaks MongoDB's wire protocol, for tests and for running Indaco on this machine: loopback only.
#
#   mongo.sh start | stop | restart | status | env | wipe
#
# Port: the first of INDACO_PORTS + 10.
# Debian has no mongod, so this is SecantusDB from PyPI (GPL-2.0, beta, WiredTiger storage): a process of its own in a
# virtual environment of its own, never imported by Indaco and no part of it. It is fit for tests, not for load
# or for data that matters. Where there is a MongoDB, set INDACO_TEST_MONGODB and do without this script.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

PORT=$((INDACO_PORTS + 10))
FOLDER=$INDACO_LOCAL/mongo
LOG=$FOLDER/server.log

start() {
  if pid_of "$FOLDER/server" >/dev/null; then
    say "already running on port $PORT"
    return
  fi
  state_folder mongo
  (umask 077 && mkdir -p "$FOLDER/data")
  from_pypi "$FOLDER/venv" 'SecantusDB==0.7.0b3'
  vacant "$PORT"
  : >"$FOLDER/secantusd.toml" # an empty one of our own: else the server looks for one in /etc and in the current folder
  cd "$FOLDER"
  launch "$FOLDER/server" "$LOG" "$FOLDER/venv/bin/secantusd-py" --config "$FOLDER/secantusd.toml" \
    --host 127.0.0.1 --port "$PORT" --storage-path "$FOLDER/data" --cache-size 256M
  await "$FOLDER/server" "$LOG" 60 listening "$PORT"
  say "up, mongodb://127.0.0.1:$PORT"
}

stop() {
  terminate "$FOLDER/server" 15
  say stopped
}

status() {
  pid_of "$FOLDER/server" >/dev/null || { echo "mongo: stopped"; exit 3; }
  listening "$PORT" || { echo "mongo: not ready"; exit 1; }
  echo "mongo: running, pid $(pid_of "$FOLDER/server"), mongodb://127.0.0.1:$PORT"
}

case ${1:-} in start | stop | restart | wipe) alone "$@" ;; esac
case ${1:-} in
  start) start ;;
  stop) stop ;;
  restart) stop && start ;;
  status) status ;;
  env) echo "export INDACO_TEST_MONGODB=mongodb://127.0.0.1:$PORT/" ;;
  wipe) stop && remove_state "$FOLDER" ;;
  *) usage ;;
esac
