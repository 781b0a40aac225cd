"""A Redis and a PostgreSQL to test on, each thrown away at the end."""

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


class Redis:
    """Keeps nothing, unless it has the option --appendonly."""

    def __init__(self, directory, *options):
        self.address = f"{directory}/socket"  # of the file system
        self.command = ["redis-server", "--port", "0", "--unixsocket", self.address]
        self.command += ["--save", "", "--dir", directory, *options]
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        with socket.socket(socket.AF_UNIX) as client:
            while client.connect_ex(self.address):
                assert self.process.poll() is None, "redis-server has ended"
                time.sleep(0.01)

    def stop(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        self.process.kill()
        self.process.wait()


@contextmanager
def redis(*options):
    with TemporaryDirectory() as directory:
        server = Redis(directory, *options)
        try:
            yield server
        finally:
            server.kill()


class PostgreSQL:
    def __init__(self, home, initdb, pg_ctl, user):
        self.address = self.home = home  # the directory with its socket
        self.pg_ctl = pg_ctl
        self.user = user
        self.run(initdb, "--no-sync", "--auth=trust", "--username=postgres", "data")
        self.start()

    def run(self, *command):
        quiet = subprocess.DEVNULL
        subprocess.run(
            command, check=True, cwd=self.home, user=self.user, stdout=quiet, stderr=quiet
        )

    def start(self):
        options = f"-k {self.home} -c listen_addresses= -c max_connections=200 -F"
        self.run(self.pg_ctl, "-D", "data", "-o", options, "start")

    def kill(self):
        self.run(self.pg_ctl, "-D", "data", "-m", "immediate", "stop")


def postgresql_programs():
    """initdb and pg_ctl, None where they are not installed."""
    path = [os.environ["PATH"], *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]
    return [shutil.which(name, path=os.pathsep.join(path)) for name in ("initdb", "pg_ctl")]


@contextmanager
def postgresql():
    user = "nobody" if os.geteuid() == 0 else None  # it does not run as root
    with TemporaryDirectory() as home:
        if user:
            shutil.chown(home, user)
        server = PostgreSQL(home, *postgresql_programs(), user)
        try:
            yield server
        finally:
            server.kill()
