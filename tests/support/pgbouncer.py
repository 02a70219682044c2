"""PgBouncer in transaction mode before a Postgres of the tests: https://www.pgbouncer.org/config.html

It gives each transaction a connection of the server that others have used before, and keeps no prepared statements.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from local.places import TOOLS
from local.processes import Service, free_port

START_SECONDS = 10.0
CONNECTIONS = 4
"""Of the server, for each database: fewer than a test has environments."""
_INSTALLED = TOOLS / "pgbouncer" / "usr"


@contextmanager
def pooler(server_url: str) -> Iterator[str]:
    """The URL of a pooler of the server's databases, without a database's name."""
    server = psycopg.conninfo.conninfo_to_dict(server_url)
    home = Path(tempfile.mkdtemp(prefix="manifold-pgbouncer-"))
    home.chmod(0o777)  # it refuses to run as root, and writes its log there
    port = free_port("127.0.0.1")
    settings = home / "pgbouncer.ini"
    settings.write_text(
        f"""[databases]
* = host={server["host"]} port={server.get("port", 5432)} user={server["user"]} password={server.get("password", "")}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {CONNECTIONS}
max_client_conn = 500
"""
    )
    service = Service("pgbouncer", home)
    as_nobody = ["-u", "nobody"] if os.getuid() == 0 else []
    service.start([_command(), *as_nobody, settings], _environment(), home)
    try:
        service.await_port("127.0.0.1", port, START_SECONDS)
        yield psycopg.conninfo.make_conninfo(host="127.0.0.1", port=str(port), user="any", password="any")
    finally:
        service.stop()
        shutil.rmtree(home, ignore_errors=True)


def _command() -> str:
    installed = _INSTALLED / "sbin" / "pgbouncer"
    found = str(installed) if installed.exists() else shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        raise RuntimeError("PgBouncer is not installed, and `make test` could not install it: apt install pgbouncer")
    return found


def _environment() -> dict[str, str]:
    libraries = {str(file.parent) for file in _INSTALLED.glob("lib/**/*.so*")}
    return {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": ":".join(sorted(libraries))}
