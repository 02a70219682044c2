"""A TCP proxy that puts a network's delay before a server: what goes to the server waits, what comes back does not.

python -m bench.delaying_proxy --port N --host HOST --to PORT --seconds 0.001
"""

import argparse
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from bench import PATHS, ROOT
from local.processes import Service, free_port

START_SECONDS = 10.0


@contextmanager
def delayed(database_url: str, delay: float) -> Iterator[str]:
    """The URL of the database behind a proxy, a process of its own, that takes `delay` seconds for each round trip."""
    server = psycopg.conninfo.conninfo_to_dict(database_url)
    port = free_port("127.0.0.1")
    with tempfile.TemporaryDirectory(prefix="manifold-bench-") as directory:
        service = Service("delaying_proxy", Path(directory))
        to = ("--host", str(server["host"]), "--to", str(server.get("port", 5432)))
        command = [sys.executable, "-m", "bench.delaying_proxy", "--port", str(port), *to, "--seconds", str(delay)]
        service.start(command, {**os.environ, "PYTHONPATH": os.pathsep.join(PATHS)}, ROOT)
        try:
            service.await_port("127.0.0.1", port, START_SECONDS)
            yield psycopg.conninfo.make_conninfo(database_url, host="127.0.0.1", port=str(port))
        finally:
            service.stop()


def _forward(source: socket.socket, target: socket.socket, seconds: float) -> None:
    with suppress(OSError):
        while content := source.recv(1 << 20):
            if seconds:
                time.sleep(seconds)
            target.sendall(content)
        target.shutdown(socket.SHUT_WR)


def _serve(client: socket.socket, host: str, port: int, seconds: float) -> None:
    server = socket.create_connection((host, port))
    for one in (client, server):
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=_forward, args=(client, server, seconds), daemon=True).start()
    threading.Thread(target=_forward, args=(server, client, 0.0), daemon=True).start()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.delaying_proxy", description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", required=True, help="the server's")
    parser.add_argument("--to", type=int, required=True, help="the server's port")
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    with socket.create_server(("127.0.0.1", given.port)) as listening:
        while True:
            client, _ = listening.accept()
            _serve(client, given.host, given.to, given.seconds)


if __name__ == "__main__":
    main()
