#!/bin/bash
# Starts the broker of compose.yaml: the settings of server.properties with the names of the network,
# and at the first start an empty log with the users broker and admin. Passwords are files.
set -euo pipefail
umask 077
state=${STATE:-/var/lib/zaslon} secrets=${SECRETS:-/run/secrets} deploy=${DEPLOY:-/deploy}
libs=${LIBS:-/opt/kafka/libs} host=${BROKER_HOST:-kafka}
secret() { cat "$secrets/kafka_$1"; }

properties=$state/server.properties
sed -e "s|@PORT@|9092|g; s|@CONTROLLER_PORT@|9093|g; s|@DIRECTORY@|$state|g" \
  -e "s|@BROKER_PASSWORD@|$(secret broker)|" "$deploy/server.properties" >"$properties"
# Later lines win. HOST is for clients on this machine, outside the network of the containers.
cat >>"$properties" <<EOF
controller.quorum.voters=1@$host:9093
listeners=CLIENT://:9092,HOST://:19092,CONTROLLER://:9093
advertised.listeners=CLIENT://$host:9092,HOST://localhost:19092
listener.security.protocol.map=CLIENT:SASL_SSL,HOST:SASL_SSL,CONTROLLER:SSL
listener.name.host.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
EOF
java="java -Xmx768m -Dlog4j2.configurationFile=$deploy/log4j2.properties"
if [ ! -f "$state/data/meta.properties" ]; then
  arguments=$state/format.arguments # a file, so that no password is in a command line
  {
    printf '%s\n' -cp "\"$libs/*\"" kafka.tools.StorageTool format "--cluster-id=$(head -c 16 /dev/urandom | base64 | tr '+/' 'Az' | tr -d '=')"
    printf '%s\n' -c "\"$properties\""
    for user in broker admin; do
      printf '%s\n' --add-scram "\"SCRAM-SHA-512=[name=$user,password=$(secret $user)]\""
    done
  } >"$arguments"
  $java "@$arguments" >/dev/null # it prints salts and stored keys
  rm "$arguments"
fi
exec $java -cp "$libs/*" kafka.Kafka "$properties"
