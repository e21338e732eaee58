#!/bin/sh
# Restore a backup of deploy/backup.sh into an installation without data: deploy/restore.sh FOLDER
#
# First stop the installation and delete its volumes (`docker compose down --volumes`); no data is overwritten.
# The release may be newer than the one of the backup: the database is then upgraded to the schema of the release.
set -eu
[ $# -eq 1 ] && [ -d "$1" ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
compose="docker-compose"
docker compose version >/dev/null 2>&1 && compose="docker compose"

(cd "$1" && sha256sum --check --quiet SHA256SUMS)
if $compose run --rm -T --no-deps --entrypoint sh secrets -c '[ -e /secrets/sensorium/sensorium_secret_key ]' </dev/null; then
  echo "the installation has secrets already, expected empty volumes; delete them first: $compose down --volumes" >&2
  exit 1
fi
$compose run --rm -T --no-deps --entrypoint tar secrets -C /secrets -xf - <"$1/secrets.tar"
$compose run --rm -T --no-deps --entrypoint tar migrate -C /var/lib/sensorium -xf - <"$1/artifacts.tar"
$compose up --detach postgres
until $compose exec -T postgres pg_isready --quiet --host=127.0.0.1 --username=sensorium --dbname=sensorium </dev/null; do
  sleep 1
done
$compose exec -T postgres pg_restore --username=sensorium --dbname=sensorium --exit-on-error --single-transaction \
  <"$1/database.dump"
$compose up --detach
echo "restored from $1"
