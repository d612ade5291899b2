"""A real PostgreSQL on a free port, for tests."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path


def find_binaries():
    """The folder with `initdb` and `pg_ctl`: Debian keeps it off the path."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: p.parts[-2].zfill(4), reverse=True)
    on_path = shutil.which("initdb")
    if on_path is not None:
        folders.append(Path(on_path).resolve().parent)
    return next((f for f in folders if (f / "initdb").exists() and (f / "pg_ctl").exists()), None)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A PostgreSQL of one's own, in a temporary folder; it refuses to run as root."""

    def __init__(self, binaries, folder):
        self.binaries, self.folder, self.port = binaries, folder, free_port()
        self.user = "postgres" if os.geteuid() == 0 else None

    def run(self, name, *arguments):
        command = [str(self.binaries / name), *arguments]
        return subprocess.run(
            command, user=self.user, cwd=self.folder, capture_output=True, text=True, timeout=120, check=True
        )

    def make(self):
        self.run(
            "initdb", "-D", str(self.folder / "data"), "-U", "tester", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"
        )

    def start(self):
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        # Its output goes to a file: the server would keep the pipe of `run` open.
        self.run(
            "pg_ctl", "-D", str(self.folder / "data"), "-o", options, "-l", str(self.folder / "log"), "-w", "start"
        )

    def stop(self, mode="fast"):
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-m", mode, "-w", "stop")

    def fresh(self, name):
        """The URL of an empty database."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self.execute(f"CREATE DATABASE {name}")
        return f"postgresql://tester@127.0.0.1:{self.port}/{name}"

    def execute(self, sql):
        import psycopg

        with psycopg.connect(f"postgresql://tester@127.0.0.1:{self.port}/postgres", autocommit=True) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else None


@contextlib.contextmanager
def running():
    """A server that runs; None where none is installed."""
    binaries = find_binaries()
    if binaries is None:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="dsplus-pg-"))  # short, and readable for the server's user
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        server = Server(binaries, folder)
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
