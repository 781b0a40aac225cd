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

REDIS_PORT, MQTT_PORT = 6379, 1883  # by custom


class FailedError(Exception):
    """Why a package proves nothing."""


@contextmanager
def server(name: str, port: int, *options: str) -> Iterator[None]:
    """Run a server that keeps nothing, at the usual port, where nobody else's may stand.

    Some tests look for it there, whatever they are told, and may empty what they find.
    """
    path = shutil.which(name)
    if not path:
        raise FailedError(f"there is no {name}; on Debian: apt-get install {name}")
    with socket.socket() as client:
        if not client.connect_ex(("127.0.0.1", port)):
            raise FailedError(f"port {port} is in use, and these tests write to whatever is there")
    output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([path, *options], **output) as process:
        try:
            end = monotonic() + 30
            while True:
                with socket.socket() as client:
                    if not client.connect_ex(("127.0.0.1", port)):
                        break
                if process.poll() is not None or monotonic() > end:
                    raise FailedError(f"{name} does not answer")
                sleep(0.01)
            yield
        finally:
            process.terminate()


@contextmanager
def redis_server(directory: Path) -> Iterator[list[str]]:
    """Run a Redis, and give pytest's arguments for it."""
    options = ["--bind", "127.0.0.1", "--port", str(REDIS_PORT), "--save", ""]
    options += ["--dir", str(directory), "--enable-debug-command", "yes"]
    with server("redis-server", REDIS_PORT, *options):
        yield ["--redis-url", f"redis://127.0.0.1:{REDIS_PORT}/0"]


@contextmanager
def mosquitto(_: Path) -> Iterator[list[str]]:
    """Run an MQTT broker. Without a configuration, it serves this machine alone."""
    with server("mosquitto", MQTT_PORT, "-p", str(MQTT_PORT)):
        yield []


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
    "aiojobs": Package(
        "1.4.0",
        ["tests"],
        needs=["pytest-aiohttp", "pytest-timeout"],
        arguments=["-o", "asyncio_mode=auto"],  # the sdist lacks its configuration
    ),
    # Its own tests need a broker on the Internet: aiomqtt_suite.py has others.
    "aiomqtt": Package(
        "2.5.1",
        ["tests", "aiomqtt_suite.py"],
        needs=["anyio", "pytest-asyncio", "pytest-timeout"],
        arguments=["-m", "not network", "--timeout=60"],
        service=mosquitto,
    ),
    "aiostream": Package("0.8.1", ["tests"], needs=["pytest-asyncio"]),
    "asgiref": Package("3.13.0", ["tests"], needs=["packaging", "pytest-asyncio"]),
    "python-engineio": Package(
        "4.15.1",
        ["tests/async"],
        needs=["aiohttp", "pytest-asyncio", "requests", "tornado", "websocket-client"],
    ),
    "taskiq": Package(
        "0.13.0",
        ["tests"],
        extras="[cbor,msgpack,orjson]",
        needs=["anyio", "freezegun", "polyfactory", "pytest-xdist", "pytz"],
        arguments=["--ignore=tests/opentelemetry"],
    ),
    "trio-asyncio": Package(
        "0.16.0",
        ["tests", "trio_asyncio_suite.py"],
        needs=["pytest-timeout", "pytest-trio"],
        arguments=["--ignore=tests/python", "--timeout=60"],
        before=(3, 14),
    ),
    # Its sdist has no tests: websockets_suite.py is run in their place.
    "websockets": Package(
        "17.4",
        ["websockets_suite.py"],
        needs=["pytest-asyncio", "pytest-timeout"],
        arguments=["-c", os.devnull, "--rootdir=.", "--noconftest", "--timeout=60"],
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
