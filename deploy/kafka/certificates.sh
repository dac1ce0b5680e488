#!/bin/sh
# certificates.sh DIRECTORY [NAME…]: an authority (ca.crt) and a broker's certificate signed by it.
# NAMEs are further subjects, for example DNS:kafka. Everything is PEM, keys are PKCS#8; only openssl
# is needed. ca.key signs: keep it off the brokers.
set -eu
directory=$1
shift
subjects="DNS:localhost,IP:127.0.0.1"
for name in "$@"; do subjects="$subjects,$name"; done

umask 077
mkdir -p "$directory"
cd "$directory"
new_key="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -sha256"
# shellcheck disable=SC2086  # options are meant to be split
openssl req -x509 $new_key -days 825 -subj /CN=zaslon-authority -keyout ca.key -out ca.crt \
  -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign 2>openssl.log
# shellcheck disable=SC2086
openssl req -new $new_key -subj /CN=broker -keyout broker.key -out broker.csr 2>>openssl.log
{
  echo "subjectAltName=$subjects"
  echo "keyUsage=critical,digitalSignature"
  echo "extendedKeyUsage=serverAuth,clientAuth"
} >extensions
openssl x509 -req -sha256 -days 397 -in broker.csr -CA ca.crt -CAkey ca.key -CAcreateserial \
  -extfile extensions -out broker.crt 2>>openssl.log
cat broker.key broker.crt ca.crt >broker.pem
rm broker.csr extensions openssl.log
