#!/bin/sh
# secrets.sh [DIRECTORY]: new passwords for compose.yaml, one file each; those that are there stay.
set -eu
directory=${1:-.kafka/compose}
umask 077
mkdir -p "$directory"
for user in broker admin producer scorer gateway viewer; do
  [ -s "$directory/$user" ] || head -c 24 /dev/urandom | base64 | tr '+/' 'Az' | tr -d '\n' >"$directory/$user"
done
login=org.apache.kafka.common.security.scram.ScramLoginModule
echo "KAFKA_CLUSTERS_0_PROPERTIES_SASL_JAAS_CONFIG=$login required username=\"viewer\" password=\"$(cat "$directory/viewer")\";" \
  >"$directory/ui.env"
