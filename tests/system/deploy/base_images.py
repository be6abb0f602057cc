"""Stand-ins for the base images of `deploy/`, made of Debian's packages where no registry can be reached."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.postgresql import embedded_postgres

MIRROR = "http://deb.debian.org/debian"
# What the entrypoint of the official image does, as far as deploy/compose.yaml uses it.
POSTGRES_ENTRYPOINT = """#!/bin/sh
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  mkdir -p "$PGDATA"
  printf %s "$POSTGRES_PASSWORD" > /tmp/password
  initdb --no-sync --username=postgres --pwfile=/tmp/password --auth-host=scram-sha-256 --auth-local=trust
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
  pg_ctl -w -o "-c listen_addresses='' -c unix_socket_directories=/var/run/postgresql" start
  for file in /docker-entrypoint-initdb.d/*.sql; do
    psql --set ON_ERROR_STOP=1 --host /var/run/postgresql --username postgres --file "$file"
  done
  pg_ctl -w -m fast stop
fi
exec "$@"
"""
POSTGRES = """FROM docker.io/library/debian:trixie-slim
RUN useradd --system postgres && install -d -o postgres -m 3777 /var/lib/postgresql /var/run/postgresql
COPY site-packages /opt/site-packages
COPY --chmod=755 entrypoint /usr/local/bin/docker-entrypoint.sh
ENV PGDATA=/var/lib/postgresql/18/docker \\
    PATH=/opt/site-packages/embedded_postgres/pginstall/bin:/usr/local/bin:/usr/bin:/bin
ENTRYPOINT ["docker-entrypoint.sh"]
STOPSIGNAL SIGINT
CMD ["postgres", "-c", "listen_addresses=*", "-c", "unix_socket_directories=/var/run/postgresql"]
"""
NGINX = """FROM docker.io/library/debian:trixie-slim
RUN apt-get update && apt-get install --yes --no-install-recommends nginx-light \\
 && useradd --system nginx && rm -rf /var/lib/nginx && mkdir -p /var/cache/nginx \\
 && ln -s /var/cache/nginx /var/lib/nginx \\
 && ln -sf /dev/stdout /var/log/nginx/access.log && ln -sf /dev/stderr /var/log/nginx/error.log
STOPSIGNAL SIGQUIT
CMD ["nginx", "-g", "daemon off;"]
"""
PYTHON = """FROM docker.io/library/debian:trixie-slim
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv ca-certificates \\
 && ln -s python3 /usr/bin/python
"""


def ensure(podman: Callable[..., str], images: set[str], folder: Path) -> None:
    """Pulls each image that is missing, or makes a stand-in with its name."""
    for image in sorted(images, key=lambda name: "debian" not in name):  # the others are made from debian
        name = f"docker.io/library/{image}"
        if not podman("images", "--quiet", name) and not _pulled(name):
            _make(podman, image.partition(":")[0], name, folder)


def _pulled(name: str) -> bool:
    try:
        return subprocess.run(["podman", "pull", "--quiet", name], capture_output=True, timeout=60).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _make(podman: Callable[..., str], kind: str, name: str, folder: Path) -> None:
    place = folder / kind
    place.mkdir()
    if kind == "debian":
        if shutil.which("debootstrap") is None:
            pytest.skip(f"{name} cannot be pulled, and debootstrap is not installed: apt-get install debootstrap")
        words = ["debootstrap", "--variant=minbase", "trixie", str(place / "root"), MIRROR]
        subprocess.run(words, check=True, stdout=sys.stderr)
        subprocess.run(["tar", "-C", str(place / "root"), "-cf", str(place / "root.tar"), "."], check=True)
        podman("import", "--quiet", str(place / "root.tar"), name)
        return
    if kind == "postgres":
        binaries = Path(embedded_postgres.__file__).parent
        for source in (binaries, binaries.with_name("embedded_postgres.libs")):
            shutil.copytree(source, place / "site-packages" / source.name)
        (place / "entrypoint").write_text(POSTGRES_ENTRYPOINT)
    (place / "Containerfile").write_text({"postgres": POSTGRES, "nginx": NGINX, "python": PYTHON}[kind])
    podman("build", "--network=host", "--tag", name, str(place))
