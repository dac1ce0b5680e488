#!/bin/sh
# MLflow's tracking server with users, on PostgreSQL and S3. It runs in the foreground; README.md has the settings.
set -eu
umask 077

: "${MLFLOW_BIN:?the mlflow program of an environment of its own}"
: "${MLFLOW_STATE:?a directory that only this user can read}"
: "${MLFLOW_DB_URI:?postgresql+psycopg://USER@HOST/DATABASE of runs and models}"
: "${MLFLOW_AUTH_DB_URI:?postgresql+psycopg://USER@HOST/DATABASE of users and rights, another database}"
: "${PGPASSFILE:?a file with the passwords of PostgreSQL, HOST:PORT:DATABASE:USER:PASSWORD}"
: "${MLFLOW_ARTIFACTS:?s3://BUCKET/PREFIX}"
: "${MLFLOW_ADMIN_PASSWORD_FILE:?a file with the password of MLflow\'s user admin, 12 characters or more}"
host=${MLFLOW_HOST:-127.0.0.1} port=${MLFLOW_PORT:-5000}

mkdir -p "$MLFLOW_STATE"
# Rights are given by name, so nobody has any by default.
cat > "$MLFLOW_STATE/auth.ini" <<EOF
[mlflow]
database_uri = $MLFLOW_AUTH_DB_URI
default_permission = NO_PERMISSIONS
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = ${MLFLOW_AUTH_CACHE_SECONDS:-60}
EOF
[ -s "$MLFLOW_STATE/secret" ] || od -An -N32 -tx1 /dev/urandom | tr -d ' \n' > "$MLFLOW_STATE/secret"

MLFLOW_AUTH_CONFIG_PATH=$MLFLOW_STATE/auth.ini
MLFLOW_FLASK_SERVER_SECRET_KEY=$(cat "$MLFLOW_STATE/secret")
MLFLOW_AUTH_ADMIN_PASSWORD=$(cat "$MLFLOW_ADMIN_PASSWORD_FILE")
MLFLOW_DISABLE_TELEMETRY=true
MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false  # seven processes for what a registry does not do
export MLFLOW_AUTH_CONFIG_PATH MLFLOW_FLASK_SERVER_SECRET_KEY MLFLOW_AUTH_ADMIN_PASSWORD
export MLFLOW_DISABLE_TELEMETRY MLFLOW_SERVER_ENABLE_JOB_EXECUTION

exec "$MLFLOW_BIN" server --app-name basic-auth --host "$host" --port "$port" --workers "${MLFLOW_WORKERS:-2}" \
  --backend-store-uri "$MLFLOW_DB_URI" --artifacts-destination "$MLFLOW_ARTIFACTS" \
  --allowed-hosts "${MLFLOW_ALLOWED_HOSTS:-127.0.0.1:$port,localhost:$port}"
