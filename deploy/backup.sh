#!/bin/sh
# Save an installation of docker-compose.yml while it runs: deploy/backup.sh FOLDER
#
# FOLDER must not exist. It holds the database, the artifacts and the secrets: keep it as safe as a password. With
# artifacts in S3 those stay there (versioning and replication of the bucket are their backup). COMPOSE_FILE and
# COMPOSE_PROJECT_NAME say which installation, as for every Compose command.
set -eu
umask 077
[ $# -eq 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
[ ! -e "$1" ] || { echo "$1 exists; name a folder that does not" >&2; exit 1; }
compose="docker-compose"
docker compose version >/dev/null 2>&1 && compose="docker compose"

part="$1.part"
rm -rf "$part"
mkdir -p "$part"
$compose exec -T api tar -C /secrets -cf - sensorium >"$part/secrets.tar"
# The database first. Artifacts never change: those made from here on are no row's, and do no harm.
$compose exec -T postgres pg_dump --username=sensorium --format=custom sensorium >"$part/database.dump"
$compose exec -T api sh -c 'mkdir -p /var/lib/sensorium/artifacts && tar -C /var/lib/sensorium --exclude=artifacts/tmp \
  --warning=no-file-removed --warning=no-file-changed -cf - artifacts || [ $? -eq 1 ]' >"$part/artifacts.tar"
(cd "$part" && sha256sum database.dump artifacts.tar secrets.tar >SHA256SUMS)
mv "$part" "$1"
echo "saved in $1: $(du -sh "$1" | cut -f1)"
