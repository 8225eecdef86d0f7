"""A real nginx in front of a server, which offers it below a path."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
NEEDS_NGINX = pytest.mark.skipif(
    NGINX is None,
    reason="no nginx on this machine: path prefixes were not tested behind a reverse proxy "
    "(Debian: apt-get install nginx-light)",
)
MAX_START_SECONDS = 20
CONFIGURATION = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location {prefix} {{
      proxy_pass http://127.0.0.1:{upstream_port}{upstream_path};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade;
    }}
  }}
}}
"""


def find_free_port() -> int:
    """Find a port that nobody listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def run_nginx(
    folder: Path, port: int, prefix: str, upstream_port: int, removes_prefix: bool
) -> Iterator[str]:
    """Run nginx; yield the address below which it offers the server.

    Parameters
    ----------
    folder : Path
        Where nginx keeps its files.
    port, upstream_port : int
        The port of nginx, and that of the server.
    prefix : str
        The path, with a slash at both ends; anything else is not found.
    removes_prefix : bool
        Whether the server sees paths without the prefix.
    """
    assert NGINX is not None
    folder.mkdir()
    configuration = CONFIGURATION.format(
        folder=folder,
        port=port,
        prefix=prefix,
        upstream_port=upstream_port,
        upstream_path="/" if removes_prefix else "",
    )
    file = folder / "nginx.conf"
    file.write_text(configuration)
    with subprocess.Popen(
        [NGINX, "-p", str(folder), "-c", str(file)], stderr=subprocess.DEVNULL
    ) as process:
        try:
            _wait_for_port(port)
            yield f"http://127.0.0.1:{port}{prefix}"
        finally:
            process.terminate()


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + MAX_START_SECONDS
    while time.monotonic() < deadline:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"nginx did not listen on {port} after {MAX_START_SECONDS} s")
