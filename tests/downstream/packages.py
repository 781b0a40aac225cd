"""The packages whose suites run.py runs, and what each of them needs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

PORT = 6379  # Redis's by custom


class FailedError(Exception):
    """Why a package proves nothing."""


@contextmanager
def redis_server(directory: Path) -> Iterator[list[str]]:
    """Run a Redis that keeps nothing, and give pytest's arguments for it.

    Some tests look for it at the usual port, whatever they are told, and may empty what they find.
    So it stands there, and nobody else's may.
    """
    path = shutil.which("redis-server")
    if not path:
        raise FailedError("there is no redis-server; on Debian: apt-get install redis-server")
    with socket.socket() as client:
        if not client.connect_ex(("127.0.0.1", PORT)):
            raise FailedError(f"port {PORT} is in use, and these tests write to whatever is there")
    options = ["--bind", "127.0.0.1", "--port", str(PORT), "--save", "", "--dir", str(directory)]
    options += ["--enable-debug-command", "yes"]
    with subprocess.Popen([path, *options], stdout=subprocess.DEVNULL) as server:
        try:
            end = monotonic() + 30
            while True:
                with socket.socket() as client:
                    if not client.connect_ex(("127.0.0.1", PORT)):
                        break
                if server.poll() is not None or monotonic() > end:
                    raise FailedError("redis-server does not answer")
                sleep(0.01)
            yield ["--redis-url", f"redis://127.0.0.1:{PORT}/0"]
        finally:
            server.terminate()


@dataclass(frozen=True)
class Package:
    version: str  # none: it came with Python
    tests: Sequence[str]
    needs: Sequence[str] = ()
    extras: str = ""
    arguments: Sequence[str] = ()
    service: Callable[[Path], AbstractContextManager[list[str]]] | None = None
    before: tuple[int, int] | None = None  # the first Python that it does not run on

    def requirements(self, name: str) -> list[str]:
        itself = [f"{name}{self.extras}=={self.version}"] if self.version else []
        return [*itself, "pytest", *self.needs]


PACKAGES = {
    "cpython": Package(
        "",
        ["--pyargs", "test.test_asyncio"],
        arguments=["-o", "python_classes=", "-o", "python_functions="],  # none but unittest's
    ),
    "sqlalchemy": Package(
        "2.1.9",
        ["test/ext/asyncio", "test/base/test_concurrency.py", "test/engine"],
        extras="[aiosqlite]",
        arguments=["--db", "aiosqlite", "-p", "no:warnings", "-p", "no:logging"],
    ),
    "redis": Package(
        "8.1.0",
        ["tests/test_asyncio"],
        needs=[
            *("aiohttp", "coverage", "cryptography", "numpy", "opentelemetry-sdk", "pybreaker"),
            *("pytest-asyncio", "pytest-timeout", "redis-entraid"),
        ],
        # What one server can do, without modules or TLS.
        arguments=["-m", "not (redismod or onlycluster or ssl or multidb_integration)"],
        service=redis_server,
    ),
    "aiosmtplib": Package(
        "5.1.3", ["tests"], needs=["aiosmtpd", "hypothesis", "pytest-asyncio", "trustme"]
    ),
    "janus": Package("2.0.0", ["tests"], needs=["pytest-asyncio", "pytest-benchmark"]),
    "aiohttp": Package(
        "3.14.5",
        [
            "tests/test_client_ws.py",
            "tests/test_client_ws_functional.py",
            "tests/test_web_websocket.py",
            "tests/test_web_websocket_functional.py",
            "tests/test_websocket_data_queue.py",
            "tests/test_websocket_handshake.py",
            "tests/test_websocket_parser.py",
            "tests/test_websocket_writer.py",
        ],
        needs=[
            *("blockbuster", "coverage", "freezegun", "isal", "proxy.py", "pytest-mock"),
            *("pytest-timeout", "pytest-xdist", "trustme", "uvloop", "zlib_ng"),
        ],
    ),
    "uvicorn": Package(
        "0.54.0",
        ["tests"],
        extras="[standard]",
        needs=["a2wsgi", "cryptography", "httpx2", "pytest-mock", "trustme", "wsproto"],
        arguments=["--ignore=tests/benchmarks"],
    ),
    "hypercorn": Package(
        "0.18.0",
        ["tests"],
        extras="[h3,trio]",
        needs=["httpx", "hypothesis", "mock", "pytest-asyncio", "pytest-trio"],
    ),
    "anyio": Package(
        "4.16.0",
        ["tests/test_synchronization.py"],
        extras="[trio]",
        needs=[
            *("blockbuster", "hypothesis", "psutil", "pytest-mock", "pytest-timeout"),
            *("trustme", "truststore", "uvloop"),
        ],
    ),
    "aiocache": Package(
        "0.12.3",
        ["tests/ut"],
        extras="[redis,memcached,msgpack]",
        needs=["marshmallow", "pytest-asyncio", "pytest-mock"],
        arguments=["-o", "asyncio_default_fixture_loop_scope=function"],
    ),
    # Its sdist has no tests: distributed_suite.py is run in their place.
    "distributed": Package(
        "2026.8.0",
        ["distributed_suite.py"],
        needs=["pytest-timeout"],
        arguments=["-c", os.devnull, "--rootdir=.", "--noconftest", "--timeout=60"],
    ),
    # Its own tests need DataDog's test agent: ddtrace_suite.py is run in their place.
    "ddtrace": Package(
        "4.16.0",
        ["ddtrace_suite.py"],
        needs=["pytest-timeout"],
        arguments=["-c", os.devnull, "--rootdir=.", "--noconftest", "--timeout=60"],
    ),
    "kopf": Package(
        "1.45.2",
        [
            "tests/authentication",
            "tests/k8s",
            "tests/observation",
            "tests/orchestration",
            "tests/peering",
            "tests/primitives",
            "tests/reactor",
            "tests/running",
            "tests/timing",
        ],
        needs=[
            *("certbuilder", "certvalidator", "freezegun", "kmock", "looptime"),
            *("pytest-aiohttp", "pytest-asyncio", "pytest-mock", "pytest-timeout"),
        ],
        arguments=["--looptime"],  # as in its configuration
    ),
    "pyplumio": Package(
        "0.6.8", ["tests"], needs=["freezegun", "numpy", "pyserial-asyncio-fast", "pytest-asyncio"]
    ),
    "trio-asyncio": Package(
        "0.16.0",
        ["tests", "trio_asyncio_suite.py"],
        needs=["pytest-timeout", "pytest-trio"],
        arguments=["--ignore=tests/python", "--timeout=60"],
        before=(3, 14),
    ),
    # The last version whose sdist has the tests of its priority locks.
    "asynkit": Package(
        "0.14.0", ["tests"], needs=["anyio", "trio"], arguments=["--ignore=tests/test_anyio.py"]
    ),
    # The last version whose semaphore keeps a queue in _waiters. The sdist lacks the files that its
    # other tests import.
    "zigpy": Package(
        "0.69.0", ["tests/test_datastructures.py"], needs=["pytest-asyncio", "pytest-timeout"]
    ),
}
