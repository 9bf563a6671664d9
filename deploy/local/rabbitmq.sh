#!/usr/bin/env bash
# A RabbitMQ broker for tests and for running Indaco on this machine: loopback only, its own data and user.
#
#   rabbitmq.sh start | stop | restart | status | env | wipe
#   rabbitmq.sh kill             end the broker without letting it tidy up, as a crash would
#   rabbitmq.sh import FILE      load a definitions file (see ../rabbitmq/make_definitions.py)
#   rabbitmq.sh ctl ARGUMENT...  rabbitmqctl on this broker
#
# Ports, from the first of INDACO_PORTS: +0 AMQP, +1 management, +2 Prometheus, +3 distribution, +4 epmd.
# Installs Debian's rabbitmq-server when root. An administrator "admin" and the virtual host "indaco" are
# made at the first start; the user "guest" never is.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

AMQP=$INDACO_PORTS
MANAGEMENT=$((INDACO_PORTS + 1))
PROMETHEUS=$((INDACO_PORTS + 2))
DISTRIBUTION=$((INDACO_PORTS + 3))
EPMD=$((INDACO_PORTS + 4))
VHOST=indaco
FOLDER=$INDACO_LOCAL/rabbitmq
LOG=$FOLDER/start.log
# the broker never runs as root: Debian's package makes a user for it
AS_BROKER=(env)
! is_root || AS_BROKER=(setpriv --reuid=rabbitmq --regid=rabbitmq --clear-groups)

# broker PROGRAM ARGUMENT...: one of RabbitMQ's own programs, as the broker's user, with this broker's surroundings only.
# Debian's wrappers in /usr/sbin insist on the system's folders; the programs behind them do not.
broker() {
  local program
  program=$(dirname "$(readlink -f /usr/lib/rabbitmq/bin/rabbitmq-server)")/$1
  shift
  local surroundings=(env -i PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 HOME="$FOLDER/run"
    RABBITMQ_NODENAME=indaco@localhost
    RABBITMQ_CONFIG_FILE="$FOLDER/run/rabbitmq.conf"
    RABBITMQ_ADVANCED_CONFIG_FILE="$FOLDER/run/advanced.config"
    RABBITMQ_ENABLED_PLUGINS_FILE="$FOLDER/run/enabled_plugins"
    RABBITMQ_CONF_ENV_FILE=/dev/null
    RABBITMQ_MNESIA_BASE="$FOLDER/data"
    RABBITMQ_LOG_BASE="$FOLDER/log"
    RABBITMQ_PID_FILE="$FOLDER/run/broker.pid"
    RABBITMQ_DIST_PORT="$DISTRIBUTION"
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none'
    ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT="$EPMD")
  "${AS_BROKER[@]}" "${surroundings[@]}" "$program" "$@"
}

configure() {
  local password
  password=$(secret "$FOLDER/admin.password")
  (
    umask 077
    cat >"$FOLDER/run/rabbitmq.conf" <<CONF
listeners.tcp.1 = 127.0.0.1:$AMQP
listeners.ssl = none
management.tcp.ip = 127.0.0.1
management.tcp.port = $MANAGEMENT
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = $PROMETHEUS
# these four are read at the very first start only
default_vhost = $VHOST
default_user = admin
default_pass = $password
default_user_tags.administrator = true
log.file.level = info
log.console = false
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 500MB
CONF
    # the write-ahead log of quorum queues: 512 MB, the default, is more than a test needs
    cat >"$FOLDER/run/advanced.config" <<CONF
[{ra, [{wal_max_size_bytes, 67108864}]},
 {kernel, [{inet_dist_use_interface, {127,0,0,1}}]}].
CONF
    echo '[rabbitmq_management,rabbitmq_prometheus].' >"$FOLDER/run/enabled_plugins"
    secret "$FOLDER/run/.erlang.cookie" >/dev/null
    chmod 400 "$FOLDER/run/.erlang.cookie"
  )
  ! is_root || chown -R rabbitmq:rabbitmq "$FOLDER/run" "$FOLDER/data" "$FOLDER/log"
}

# api METHOD PATH [CURL ARGUMENT...]: the management interface; the password travels by file, not by command line
api() {
  local method=$1 path=$2
  shift 2
  curl -fsS --max-time 30 -K <(printf 'user = "admin:%s"\n' "$(cat "$FOLDER/admin.password")") \
    -X "$method" "$@" "http://127.0.0.1:$MANAGEMENT/api/$path"
}

# plugins start before the AMQP listener: when both answer, the broker is whole
ready() { listening "$AMQP" && api GET overview; }

# the broker detaches itself and leaves its number in a file
recorded() {
  [ -s "$FOLDER/run/broker.pid" ] || return 1
  record "$FOLDER/broker" "$(cat "$FOLDER/run/broker.pid")"
  pid_of "$FOLDER/broker"
}

start() {
  if pid_of "$FOLDER/broker" >/dev/null; then
    say "already running on port $AMQP"
    return
  fi
  state_folder rabbitmq
  (umask 027 && mkdir -p "$FOLDER"/{data,log,run})
  need /usr/lib/rabbitmq/bin/rabbitmq-server rabbitmq-server
  need curl curl
  vacant "$AMQP" "$MANAGEMENT" "$PROMETHEUS" "$DISTRIBUTION"
  configure
  if ! pid_of "$FOLDER/epmd" >/dev/null; then
    vacant "$EPMD"
    launch "$FOLDER/epmd" "$LOG" "${AS_BROKER[@]}" epmd -address 127.0.0.1 -port "$EPMD"
    await "$FOLDER/epmd" "$LOG" 10 listening "$EPMD"
  fi
  rm -f "$FOLDER/run/broker.pid"
  (cd "$FOLDER/run" && broker rabbitmq-server -detached) >>"$LOG" 2>&1 </dev/null
  for _ in {1..600}; do
    recorded >/dev/null && break
    sleep 0.1
  done
  await "$FOLDER/broker" "$LOG" 90 ready
  say "up, amqp://127.0.0.1:$AMQP management http://127.0.0.1:$MANAGEMENT"
}

# SIGTERM lets the broker close its queues and end in good order
stop_broker() { terminate "$FOLDER/broker" 40; }

stop() {
  stop_broker
  terminate "$FOLDER/epmd" 5
  say stopped
}

crash() {
  local pid
  pid=$(pid_of "$FOLDER/broker") || die "not running"
  kill -KILL "$pid"
  terminate "$FOLDER/broker" 10
  say killed
}

print_env() {
  local password
  password=$(cat "$FOLDER/admin.password" 2>/dev/null) || die "never started"
  echo "export INDACO_TEST_AMQP=amqp://admin:$password@127.0.0.1:$AMQP/$VHOST"
  echo "export INDACO_TEST_AMQP_MANAGEMENT=http://admin:$password@127.0.0.1:$MANAGEMENT"
}

status() {
  pid_of "$FOLDER/broker" >/dev/null || { echo "rabbitmq: stopped"; exit 3; }
  ready >/dev/null 2>&1 || { echo "rabbitmq: not ready"; exit 1; }
  echo "rabbitmq: running, pid $(pid_of "$FOLDER/broker"), amqp://127.0.0.1:$AMQP/$VHOST"
}

case ${1:-} in start | stop | restart | wipe) alone "$@" ;; esac
case ${1:-} in
  start) start ;;
  stop) stop ;;
  restart) stop_broker && start ;;
  kill) crash ;;
  status) status ;;
  env) print_env ;;
  import) api POST definitions -H 'content-type: application/json' --data-binary "@${2:?FILE}" ;;
  ctl) shift && broker rabbitmqctl "$@" ;;
  wipe) stop && remove_state "$FOLDER" ;;
  *) usage ;;
esac
