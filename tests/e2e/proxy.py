"""nginx with the production configuration, in front of processes on loopback."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from string import Template

from tests.conftest import wait_until
from tests.servers import free_port, is_open

PROXY = Path(__file__).parent.parent.parent / "deploy" / "proxy"
# The main configuration of the nginx image, changed so that an unprivileged user can run it.
MAIN = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream api {{
    {servers}
  }}
  include {folder}/sensorium.conf;
}}
"""


def binary() -> str | None:
    """The nginx program; Debian installs it in /usr/sbin, which may not be in PATH."""
    return shutil.which("nginx") or shutil.which("/usr/sbin/nginx")


@contextmanager
def proxy(folder: Path, ports: Sequence[int], locations: Path = PROXY / "locations.conf") -> Iterator[str]:
    """A proxy in front of these ports; yields its URL."""
    folder.mkdir()
    port = free_port()
    # nginx resolves the name to this upstream group; there is no name server.
    template = Template((PROXY / "templates" / "sensorium.conf.template").read_text())
    filled = template.safe_substitute(SENSORIUM_API="http://api", SENSORIUM_RESOLVER="127.0.0.1")
    for production, here in {
        "listen 8080;": f"listen 127.0.0.1:{port};",
        "/etc/nginx/sensorium/locations.conf": str(locations),
        "/var/cache/nginx/bodies": str(folder / "bodies"),
        "/dev/stdout": str(folder / "access.log"),
    }.items():
        assert production in filled
        filled = filled.replace(production, here)
    (folder / "sensorium.conf").write_text(filled)
    servers = " ".join(f"server 127.0.0.1:{each} max_fails=0;" for each in ports)
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder, servers=servers))
    program = binary()
    assert program is not None
    started = subprocess.Popen([program, "-c", folder / "nginx.conf", "-p", folder])
    try:
        wait_until(lambda: is_open(port), 10, "nginx")
        yield f"http://127.0.0.1:{port}"
    finally:
        started.terminate()
        assert started.wait(30) == 0
