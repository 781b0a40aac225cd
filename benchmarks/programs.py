"""Compare whole programs with asyncio's locks and with aiofastlock's.

Libraries bind the names at import, so each side runs in a separate process. In a round, new
processes take turns in short runs, and the round's ratio is the median of the runs' ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    ExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass
from importlib import metadata
from itertools import cycle, islice, permutations
from math import comb
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic, process_time_ns, sleep
from typing import Any

import results

import aiofastlock
from aiofastlock._benchmark import median_ratio, print_environment, require

# asyncio runs twice: its difference from itself shows the noise.
SIDES = ("asyncio", "asyncio", "aiofastlock")
ROUNDS = 20
FEWEST = 6  # rounds for a verdict
RUNS = 30  # of each side in a round
TASKS = 4  # that send requests concurrently
SECONDS = 60  # to wait for another process

PRIMITIVES = ("Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "Semaphore")
COUNTED = ("acquire", "notify", "notify_all", "set", "wait")

SPAWN = multiprocessing.get_context("spawn")


class LeftOutError(Exception):
    """The reason why a program cannot be measured here."""


# A program is a context manager. It takes a directory that the sides share, and returns a function
# that serves a number of requests. A backend serves all sides, and returns its parts' versions.
Serve = Callable[[int], Awaitable[None]]
Backend = Callable[[Path], AbstractContextManager[dict[str, str]]]


@dataclass(frozen=True)
class Program:
    name: str
    run: Callable[[Path], AbstractAsyncContextManager[Serve]]
    requests: int
    packages: Sequence[str]
    backend: Backend


PROGRAMS: dict[str, Program] = {}


def no_backend(_directory: Path) -> AbstractContextManager[dict[str, str]]:
    return nullcontext({})


def program(
    key: str, name: str, packages: Sequence[str], *, requests: int, backend: Backend = no_backend
) -> Callable[[Callable[[Path], AsyncIterator[Serve]]], None]:
    """Add a program. A run makes `requests` requests, and takes about 20 ms."""

    def add(run: Callable[[Path], AsyncIterator[Serve]]) -> None:
        PROGRAMS[key] = Program(name, asynccontextmanager(run), requests, packages, backend)

    return add


# ---- Processes ----


@contextmanager
def process(target: Callable[..., None], *arguments: Any) -> Iterator[Connection]:
    """Run target(*arguments, pipe), which returns when the pipe is closed, in a new process."""
    pipe, its_pipe = SPAWN.Pipe()
    worker = SPAWN.Process(target=target, args=(*arguments, its_pipe))
    worker.start()
    its_pipe.close()
    try:
        yield pipe
    finally:
        pipe.close()
        worker.join(10)
        worker.kill()
        worker.join()


def receive(pipe: Connection) -> Any:
    require(pipe.poll(SECONDS), f"a process did not answer for {SECONDS} seconds")
    try:
        return pipe.recv()
    except EOFError:
        raise RuntimeError("a process ended; its own message says why") from None


def demands(pipe: Connection) -> Iterator[int]:
    """Yield the numbers of requests that the other process sends, until it closes the pipe."""
    while True:
        try:
            yield pipe.recv()
        except EOFError:
            return


# ---- The programs ----
# They import what they measure, because asyncio's names are replaced first.

HELLO = b"Hello, world!"


async def hello(_scope: Any, _receive: Any, send: Any) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(HELLO))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": HELLO})


def browse(port: int, pipe: Connection) -> None:
    """Send requests on persistent connections, one at a time on each."""
    address = ("127.0.0.1", port)
    clients = [socket.create_connection(address, timeout=SECONDS) for _ in range(TASKS)]
    for requests in demands(pipe):
        for sent in range(requests + TASKS):
            client = clients[sent % TASKS]
            if sent >= TASKS:
                answer = received = client.recv(65536)
                while received and not answer.endswith(HELLO):
                    answer += (received := client.recv(65536))
                require(answer.startswith(b"HTTP/1.1 200 OK\r\n"), f"wrong answer: {answer!r}")
            if sent < requests:
                client.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        pipe.send(None)


@program("uvicorn", "uvicorn: GET", ["uvicorn", "httptools"], requests=600)
async def run_uvicorn(_directory: Path) -> AsyncIterator[Serve]:
    import uvicorn

    config = uvicorn.Config(
        hello,
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_keep_alive=SECONDS,
    )
    server = uvicorn.Server(config)
    # Without an explicit protocol, asyncio does not disable Nagle's algorithm: answers take 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    with process(browse, listener.getsockname()[1]) as client:

        async def serve(requests: int) -> None:
            client.send(requests)
            await asyncio.to_thread(receive, client)

        yield serve
    server.should_exit = True
    await serving


@contextmanager
def redis_server(directory: Path) -> Iterator[dict[str, str]]:
    """Run a Redis server without persistence, on a socket in the directory."""
    path = shutil.which("redis-server")
    if not path:
        raise LeftOutError("redis-server is not installed; on Debian: apt-get install redis-server")
    address = str(directory / "redis")
    options = ["--port", "0", "--unixsocket", address, "--save", "", "--dir", str(directory)]
    with subprocess.Popen([path, *options], stdout=subprocess.DEVNULL) as server:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                end = monotonic() + SECONDS
                while client.connect_ex(address):
                    require(server.poll() is None, "redis-server ended")
                    require(monotonic() < end, f"redis-server did not start in {SECONDS} seconds")
                    sleep(0.01)
            # Redis server v=7.0.15 sha=...
            version = subprocess.check_output([path, "--version"], text=True).split()[2]
            yield {"redis-server": version.removeprefix("v=")}
        finally:
            server.terminate()
            try:
                server.wait(SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()


@program("redis", "redis-py: GET", ["redis"], requests=600, backend=redis_server)
async def run_redis(directory: Path) -> AsyncIterator[Serve]:
    import redis.asyncio

    async with redis.asyncio.Redis(unix_socket_path=str(directory / "redis")) as client:
        await client.set("key", HELLO)

        async def get(requests: int) -> None:
            for _ in range(requests):
                require(await client.get("key") == HELLO, "a wrong value")

        async def serve(requests: int) -> None:
            await asyncio.gather(*[get(requests // TASKS) for _ in range(TASKS)])

        yield serve


@program(
    "sqlalchemy",
    "SQLAlchemy on aiosqlite: SELECT",
    ["sqlalchemy", "aiosqlite", "greenlet"],
    requests=60,
)
async def run_sqlalchemy(directory: Path) -> AsyncIterator[Serve]:
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine

    # The event loop and aiosqlite's threads pass the GIL back and forth. On two processors, one
    # process may need up to three times as long as another, for its whole life.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    path = directory / f"{os.getpid()}.db"
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}", pool_size=TASKS)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE greetings (id INTEGER PRIMARY KEY, text)"))
        await connection.execute(text("INSERT INTO greetings VALUES (1, :text)"), {"text": HELLO})
    query = text("SELECT text FROM greetings WHERE id = :id")

    async def select(requests: int) -> None:
        for _ in range(requests):
            async with engine.connect() as connection:
                result = await connection.execute(query, {"id": 1})
                require(result.scalar_one() == HELLO, "a wrong value")

    async def serve(requests: int) -> None:
        await asyncio.gather(*[select(requests // TASKS) for _ in range(TASKS)])

    yield serve
    await engine.dispose()


# ---- One side ----


def counting(primitive: Any, uses: Counter[str]) -> type:
    """Return a subclass that counts its instances and the calls of their methods."""

    def count(method: str) -> Callable[..., Any]:
        original = getattr(primitive, method)
        use = primitive.__name__ + ("()" if method == "__init__" else f".{method}()")

        def counted(*args: Any, **kwargs: Any) -> Any:
            uses[use] += 1
            return original(*args, **kwargs)

        return counted

    methods = [name for name in ("__init__", *COUNTED) if hasattr(primitive, name)]
    return type(primitive.__name__, (primitive,), {name: count(name) for name in methods})


def take_side(key: str, directory: Path, library: str, counted: bool, pipe: Connection) -> None:
    """Run a program on a library's primitives, once for each number of requests in the pipe.

    It answers with the processor time in nanoseconds, and with the counted uses.
    """
    uses: Counter[str] = Counter()
    for name in PRIMITIVES:
        primitive = getattr(importlib.import_module(library), name)
        if counted:
            primitive = counting(primitive, uses)
        setattr(asyncio, name, primitive)
        setattr(asyncio.locks, name, primitive)

    async def run() -> None:
        async with PROGRAMS[key].run(directory) as serve:
            asked = demands(pipe)
            while requests := await asyncio.to_thread(next, asked, None):
                uses.clear()
                start = process_time_ns()
                await serve(requests)
                pipe.send((process_time_ns() - start, uses))

    asyncio.run(run(), debug=False)


# ---- Both sides ----


def count_uses(key: str, directory: Path) -> dict[str, float]:
    """Return how often a request uses which methods; raise RuntimeError if it uses none."""
    requests = PROGRAMS[key].requests
    with process(take_side, key, directory, "aiofastlock", True) as pipe:
        for _ in range(2):  # the first run also makes objects that later ones reuse
            pipe.send(requests)
            _, uses = receive(pipe)
    found = {use: round(times / requests, 2) for use, times in sorted(uses.items())}
    require(any(found.values()), f"{PROGRAMS[key].name} does not use asyncio's locks")
    return found


def measure_round(key: str, directory: Path, runs: int) -> list[list[float]]:
    """Return the microseconds per request in each run, for each side."""
    requests = PROGRAMS[key].requests
    costs: list[list[float]] = [[] for _ in SIDES]
    with ExitStack() as stack:
        pipes = [
            stack.enter_context(process(take_side, key, directory, library, False))
            for library in SIDES
        ]
        for _ in range(2):  # warms up
            for pipe in pipes:
                pipe.send(requests)
            for pipe in pipes:
                receive(pipe)
        for order in islice(cycle(permutations(range(len(SIDES)))), runs):
            for side in order:
                pipes[side].send(requests)
                busy, _ = receive(pipes[side])
                costs[side].append(busy / requests / 1_000)
    return costs


def interval(values: Sequence[float]) -> list[float]:
    """Return the bounds of the median with 95 % confidence, for any distribution of the values.

    The median lies beyond the k-th value from one end only if fewer than k values lie on that side
    of it, which has the probability of fewer than k heads among as many tossed coins. Fewer than
    six values never reach 95 %.
    """
    count, k = len(values), 1
    while sum(comb(count, heads) for heads in range(k + 1)) <= 0.025 * 2**count:
        k += 1
    ordered = sorted(values)
    return [ordered[k - 1], ordered[-k]]


def change(theirs: Sequence[Sequence[float]], ours: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Return the median of the rounds' ratios, and its bounds."""
    ratios = [median_ratio(*costs) for costs in zip(theirs, ours, strict=True)]
    spread = [round(bound, 4) for bound in interval(ratios)]
    return {"change": round(median(ratios), 4), "spread": spread}


def compare(key: str, rounds: int, runs: int) -> dict[str, Any]:
    """Return a program's row."""
    name, packages = PROGRAMS[key].name, PROGRAMS[key].packages
    try:
        versions = {package: metadata.version(package) for package in packages}
    except metadata.PackageNotFoundError as error:
        raise LeftOutError(f"{error.name} is not installed") from error
    with TemporaryDirectory() as path, PROGRAMS[key].backend(Path(path)) as backend:
        uses = count_uses(key, Path(path))
        shown = ", ".join(f"{times:g} {use}" for use, times in uses.items())
        print(f"\n{name}: a request uses {shown}")
        print(f"{'':14}{''.join(f'{library:>14}' for library in SIDES)}", flush=True)
        costs = []
        for number in range(1, rounds + 1):
            costs.append(measure_round(key, Path(path), runs))
            figures = "".join(f"{median(side):11.1f} us" for side in costs[-1])
            print(f"round {number:2} of {rounds:2}{figures}", flush=True)
    theirs, again, ours = zip(*costs, strict=True)
    return {
        "program": name,
        "unit": "us of processor time per request",
        "asyncio": round(median(map(median, theirs)), 2),
        **change(theirs, ours),
        "itself": change(theirs, again),
        "rounds": rounds,
        "uses": uses,
        "versions": {**versions, **backend},
    }


# ---- The report ----


def show(found: dict[str, Any]) -> str:
    low, high = found["spread"]
    return f"{found['change']:.3f}x ({low:.3f} to {high:.3f})"


def verdict(row: dict[str, Any]) -> str:
    def differs(found: dict[str, Any]) -> bool:
        low, high = found["spread"]
        return not low <= 1 <= high

    if row["rounds"] < FEWEST:
        return "too few rounds"
    if differs(row["itself"]):
        return "too much noise: asyncio differs from itself"
    return "a difference" if differs(row) else "no difference within the noise"


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    # No time of aiofastlock: medians over rounds can contradict the median of the rounds' ratios.
    columns = f"{'asyncio':>12}   {'asyncio / aiofastlock':26}asyncio / asyncio"
    print(f"\n{'processor time per request':32}{columns}")
    for row in rows:
        print(f"{row['program']:32}{row['asyncio']:9.1f} us   {show(row):26}{show(row['itself'])}")
        print(f"{'':47}{verdict(row)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--program", choices=PROGRAMS, help="measure only this one, and write no results"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a smoke test, which writes no results"
    )
    arguments = parser.parse_args()
    rounds, runs = (1, 6) if arguments.quick else (ROUNDS, RUNS)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # ends the other processes
    print_environment()
    rows = []
    left_out = {}
    for key in [arguments.program] if arguments.program else PROGRAMS:
        try:
            rows.append(compare(key, rounds, runs))
        except LeftOutError as error:
            left_out[PROGRAMS[key].name] = str(error)
            print(f"\n*** LEFT OUT: {PROGRAMS[key].name}: {error} ***", flush=True)
    if rows:
        print_table(rows)
    for name, why in left_out.items():
        print(f"\n*** LEFT OUT: {name}: {why} ***")
    if not rows:
        sys.exit("no program was measured")
    if not (arguments.program or arguments.quick):
        part = "programs" if aiofastlock.IMPLEMENTATION == "compiled" else "programs-pure"
        print(f"\nwrote {results.write(part, rows, left_out=left_out)}")


if __name__ == "__main__":
    main()
