#!/bin/sh
# Back up a running installation of docker-compose.yml: deploy/backup.sh FOLDER
#
# FOLDER must not exist. The backup holds the database, the artifacts and the secrets: protect it like a password.
# Artifacts in S3 are not copied; use versioning and replication of the bucket. COMPOSE_FILE and COMPOSE_PROJECT_NAME
# select the installation, as for every Compose command.
set -eu
umask 077
[ $# -eq 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
[ ! -e "$1" ] || { echo "$1 exists, expected a new folder; choose another name" >&2; exit 1; }
compose="docker-compose"
docker compose version >/dev/null 2>&1 && compose="docker compose"

part="$1.part"
rm -rf "$part"
mkdir -p "$part"
# Run a command in a new container with all volumes: `docker-compose exec` 1.29 reaches only the first `api` container.
inside() { $compose run --rm -T --no-deps --entrypoint sh migrate -c "cd /var/lib/sensorium && $1" </dev/null; }
# Hard-link all artifacts into `backup`: an artifact that is deleted during the backup stays readable there.
keep() { inside 'mkdir -p artifacts backup && cp -aln artifacts/. backup/ 2>/dev/null; rm -rf backup/tmp'; }
# Remove an incomplete backup on every exit. `sh` runs the EXIT trap after a signal only if the signal is trapped too.
trap 'rm -rf "$part"; inside "rm -rf backup"' EXIT
trap 'exit 1' HUP INT TERM

inside 'rm -rf backup'
inside 'tar -C /secrets -cf - sensorium' >"$part/secrets.tar"
# Artifacts are immutable, and a row is written after its artifact. The first `keep` covers artifacts that are deleted
# during the dump; the second covers artifacts that were stored between the first `keep` and the snapshot of the dump.
keep
$compose exec -T postgres pg_dump --username=sensorium --format=custom sensorium >"$part/database.dump"
keep
inside 'tar --transform="s,^backup,artifacts," -cf - backup' >"$part/artifacts.tar"
(cd "$part" && sha256sum database.dump artifacts.tar secrets.tar >SHA256SUMS)
mv "$part" "$1"
echo "saved in $1: $(du -sh "$1" | cut -f1)"
