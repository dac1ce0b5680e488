#!/usr/bin/env bash
# One Airflow on this machine: migrate, then API server, scheduler and DAG processor, each a process group of its own.
#
#   airflow.sh start BIN PORT    BIN: the directory of Airflow's programs, such as /opt/airflow/bin
#   airflow.sh stop              ends the groups: SIGTERM, after 20 s SIGKILL
#
# AIRFLOW_HOME is needed. AIRFLOW__DATABASE__SQL_ALCHEMY_CONN names PostgreSQL; without it SQLite in AIRFLOW_HOME.
# Secrets are made once, in secrets.env there, unless the environment has them.
set -euo pipefail
umask 077  # database, logs and passwords are for this user
cd "$(dirname "$0")"
: "${AIRFLOW_HOME:?name the directory of Airflow}"
run=$AIRFLOW_HOME/run parts="api-server scheduler dag-processor"

secret() { od -An -tx1 -N"$1" /dev/urandom | tr -d ' \n'; }

make_secrets() {
  [ -e "$AIRFLOW_HOME/secrets.env" ] && return
  {
    echo "AIRFLOW__API_AUTH__JWT_SECRET=$(secret 32)"
    echo "AIRFLOW__API__SECRET_KEY=$(secret 32)"
    # 32 bytes in URL-safe base64
    echo "AIRFLOW__CORE__FERNET_KEY=$(head -c 32 /dev/urandom | base64 | tr '+/' '-_')"
  } > "$AIRFLOW_HOME/secrets.env.new"
  mv "$AIRFLOW_HOME/secrets.env.new" "$AIRFLOW_HOME/secrets.env"
}

settings() {
  local name value
  while IFS='=' read -r name value; do
    [ -n "${!name:-}" ] || export "$name=$value"
  done < "$AIRFLOW_HOME/secrets.env"
  export AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__CORE__EXECUTOR=LocalExecutor
  export AIRFLOW__CORE__DAGS_FOLDER="${AIRFLOW__CORE__DAGS_FOLDER:-$PWD/dags}"
  # LocalExecutor starts as many processes at once; 32 if not set
  export AIRFLOW__CORE__PARALLELISM="${AIRFLOW__CORE__PARALLELISM:-2}"
  export AIRFLOW__API__HOST="${AIRFLOW__API__HOST:-127.0.0.1}" AIRFLOW__API__PORT="$1" AIRFLOW__API__WORKERS=1
  export AIRFLOW__API__BASE_URL="${AIRFLOW__API__BASE_URL:-http://127.0.0.1:$1}"
  # where a task reports to: with another port than 8080 it never starts without this
  export AIRFLOW__CORE__EXECUTION_API_SERVER_URL="http://127.0.0.1:$1/execution/"
}

start() {
  local bin=$1 port=$2 part
  mkdir -p "$run"
  make_secrets
  settings "$port"
  "$bin/airflow" db migrate > "$run/migrate.log" 2>&1
  for part in $parts; do
    local options=()
    # Its log server would listen on every interface, and the API server reads the same files.
    [ "$part" = scheduler ] && options=(--skip-serve-logs)
    setsid "$bin/airflow" "$part" "${options[@]}" < /dev/null > "$run/$part.log" 2>&1 &
    echo $! > "$run/$part.pid"
  done
  for _ in $(seq 240); do
    if "$bin/python" - "$port" <<'PYTHON'
import json, sys, urllib.request
try:
    with urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/api/v2/monitor/health", timeout=3) as answer:
        health = json.load(answer)
except (OSError, ValueError):
    sys.exit(1)
sys.exit(any(health[part]["status"] != "healthy" for part in ("metadatabase", "scheduler", "dag_processor")))
PYTHON
    then return; fi
    sleep 0.5
  done
  echo "Airflow is not healthy; see $run/*.log" >&2
  stop
  exit 1
}

stop() {
  local part pid
  for part in $parts; do
    [ -e "$run/$part.pid" ] && kill -TERM -- "-$(cat "$run/$part.pid")" 2> /dev/null || true
  done
  for part in $parts; do
    [ -e "$run/$part.pid" ] || continue
    pid=$(cat "$run/$part.pid")
    for _ in $(seq 40); do
      kill -0 -- "-$pid" 2> /dev/null || break
      sleep 0.5
    done
    kill -KILL -- "-$pid" 2> /dev/null || true
    rm "$run/$part.pid"
  done
}

case "${1:-}" in
  start) start "$2" "$3" ;;
  stop) stop ;;
  *) sed -n '2,9s/^# \{0,1\}//p' airflow.sh; exit 2 ;;
esac
