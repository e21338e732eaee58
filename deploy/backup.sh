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
# In a container of its own, which has the volumes of all: docker-compose 1.29 finds only the first of several `api`.
inside() { $compose run --rm -T --no-deps --entrypoint sh migrate -c "cd /var/lib/sensorium && $1" </dev/null; }
# Names of all artifacts that are there, beside them: what is deleted from here on stays readable under its second name.
keep() { inside 'mkdir -p artifacts backup && cp -aln artifacts/. backup/ 2>/dev/null; rm -rf backup/tmp'; }
# Whatever ends it: nothing that is half saved stays. A signal ends a shell without its EXIT trap, unless it is trapped.
trap 'rm -rf "$part"; inside "rm -rf backup"' EXIT
trap 'exit 1' HUP INT TERM

inside 'rm -rf backup'
inside 'tar -C /secrets -cf - sensorium' >"$part/secrets.tar"
# Artifacts never change. Those that a row of the dump names were there when it began.
keep
$compose exec -T postgres pg_dump --username=sensorium --format=custom sensorium >"$part/database.dump"
keep
inside 'tar --transform="s,^backup,artifacts," -cf - backup' >"$part/artifacts.tar"
(cd "$part" && sha256sum database.dump artifacts.tar secrets.tar >SHA256SUMS)
mv "$part" "$1"
echo "saved in $1: $(du -sh "$1" | cut -f1)"
