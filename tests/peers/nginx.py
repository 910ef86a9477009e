"""nginx, serving a folder on loopback."""

from __future__ import annotations

import contextlib
import getpass
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.peers.processes import running, takes_connections, until
from tests.peers.programs import program
from tests.program import free_port

_CONFIGURATION = """
daemon off;
{user}
worker_processes 1;
pid {work}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 64; }}
http {{
  access_log {work}/access.log;
  client_body_temp_path {work}/body; proxy_temp_path {work}/proxy; fastcgi_temp_path {work}/fastcgi;
  uwsgi_temp_path {work}/uwsgi; scgi_temp_path {work}/scgi;
  types {{ application/vnd.apple.mpegurl m3u8; video/mp2t ts; video/mp4 mp4 m4s; }}
  default_type application/octet-stream;
  server {{
    listen 127.0.0.1:{port};
    root {root};
{extra}
  }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """`url`: without a slash at its end. `root`: the folder that it serves. `access_log`: a line a request."""

    url: str
    root: Path
    access_log: Path

    @property
    def requests(self) -> list[str]:
        """Paths that were asked for, in order."""
        return [line.split('"')[1].split()[1] for line in self.access_log.read_text().splitlines()]


@contextlib.asynccontextmanager
async def nginx(root: Path, work: Path, extra: str = "") -> AsyncIterator[Nginx]:
    """Serve `root`; `work`: an empty folder for logs; `extra`: directives of the server block."""
    binary, port = program("nginx", "nginx-light"), free_port()
    work.mkdir(parents=True, exist_ok=True)
    root.mkdir(parents=True, exist_ok=True)
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    configuration = work / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(user=user, work=work, port=port, root=root, extra=extra))
    log = work / "nginx.log"
    async with running([binary, "-c", configuration, "-p", work], log):
        await until(lambda: takes_connections(port), "nginx listens", log)
        yield Nginx(f"http://127.0.0.1:{port}", root, work / "access.log")
