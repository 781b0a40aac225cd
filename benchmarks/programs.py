"""Compare whole programs with asyncio's locks and with aiofastlock's in their place.

Libraries bind the names when they are imported, so each side has a process of its own. In a round,
fresh ones take turns in short runs; its ratio is the median of the runs' ratios.
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
from aiofastlock._benchmark import print_environment, require

# asyncio is there twice: how far it is from itself tells what a difference is worth.
SIDES = ("asyncio", "asyncio", "aiofastlock")
ROUNDS = 20
FEWEST = 6  # rounds that a verdict needs
RUNS = 30  # of each side in a round
TASKS = 4  # that make requests at a time
SECONDS = 60  # for whatever may never come

PRIMITIVES = ("Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "Semaphore")
COUNTED = ("acquire", "notify", "notify_all", "set", "wait")

SPAWN = multiprocessing.get_context("spawn")


class LeftOutError(Exception):
    """Why a program cannot be measured here."""


# A program is a context, in a directory that the sides share; it gives a function that serves so
# many requests. A backend is there for all of them, and gives the versions of what it runs.
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
    """Put a program into the table. `requests` are those of one run, which takes about 20 ms."""

    def add(run: Callable[[Path], AsyncIterator[Serve]]) -> None:
        PROGRAMS[key] = Program(name, asynccontextmanager(run), requests, packages, backend)

    return add


# ---- Processes ----


@contextmanager
def process(target: Callable[..., None], *arguments: Any) -> Iterator[Connection]:
    """Run target(*arguments, pipe), which returns when the pipe is closed, in a fresh process."""
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
    require(pipe.poll(SECONDS), f"a process has not answered for {SECONDS} seconds")
    try:
        return pipe.recv()
    except EOFError:
        raise RuntimeError("a process has ended; it has said itself why") from None


def demands(pipe: Connection) -> Iterator[int]:
    """Yield how many requests the other process asks for, again and again, until it is gone."""
    while True:
        try:
            yield pipe.recv()
        except EOFError:
            return


# ---- The programs ----
# They import what they measure, since asyncio's names have been replaced by then.

HELLO = b"Hello, world!"


async def hello(_scope: Any, _receive: Any, send: Any) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(HELLO))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": HELLO})


def browse(port: int, pipe: Connection) -> None:
    """Send requests on connections that stay open, one at a time on each."""
    address = ("127.0.0.1", port)
    clients = [socket.create_connection(address, timeout=SECONDS) for _ in range(TASKS)]
    for requests in demands(pipe):
        for sent in range(requests + TASKS):
            client = clients[sent % TASKS]
            if sent >= TASKS:
                answer = received = client.recv(65536)
                while received and not answer.endswith(HELLO):
                    answer += (received := client.recv(65536))
                require(answer.startswith(b"HTTP/1.1 200 OK\r\n"), f"an answer of {answer!r}")
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
    # Where the protocol is not named, asyncio leaves Nagle's algorithm on, and answers take 40 ms.
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
    """Run a Redis that keeps nothing, on a socket in the directory."""
    path = shutil.which("redis-server")
    if not path:
        raise LeftOutError("there is no redis-server; on Debian: apt-get install redis-server")
    address = str(directory / "redis")
    options = ["--port", "0", "--unixsocket", address, "--save", "", "--dir", str(directory)]
    with subprocess.Popen([path, *options], stdout=subprocess.DEVNULL) as server:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                end = monotonic() + SECONDS
                while client.connect_ex(address):
                    require(server.poll() is None, "redis-server has ended")
                    require(monotonic() < end, f"no redis-server after {SECONDS} seconds")
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

    # The loop and aiosqlite's threads hand the GIL to and fro. Between processors that costs up to
    # three times as much, or does not, for as long as a process lives.
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
    """Return a subclass that counts how many are made, and what is called of them."""

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
    """Run a program on a library's primitives, as often as it is asked for.

    What comes back is the processor time that it took, in nanoseconds, and the uses if counted.
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
    """Return what of aiofastlock a request uses. Nothing: there would be nothing to measure."""
    requests = PROGRAMS[key].requests
    with process(take_side, key, directory, "aiofastlock", True) as pipe:
        for _ in range(2):  # the first one also makes what later ones find
            pipe.send(requests)
            _, uses = receive(pipe)
    found = {use: round(times / requests, 2) for use, times in sorted(uses.items())}
    require(any(found.values()), f"{PROGRAMS[key].name} makes no use of asyncio's locks")
    return found


def measure_round(key: str, directory: Path, runs: int) -> list[list[float]]:
    """Return the microseconds a request took in each run, for each side."""
    requests = PROGRAMS[key].requests
    costs: list[list[float]] = [[] for _ in SIDES]
    with ExitStack() as stack:
        pipes = [
            stack.enter_context(process(take_side, key, directory, library, False))
            for library in SIDES
        ]
        for _ in range(2):  # to warm up
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
    """Return the bounds of the median with 95 % confidence, however the values are distributed.

    It is beyond the k-th value from one end only if fewer than k fall on that side of it, as of
    so many tossed coins fewer than k show heads. Fewer than six values can't be that sure.
    """
    count, k = len(values), 1
    while sum(comb(count, heads) for heads in range(k + 1)) <= 0.025 * 2**count:
        k += 1
    ordered = sorted(values)
    return [ordered[k - 1], ordered[-k]]


def change(theirs: Sequence[Sequence[float]], ours: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Return how many times as fast ours are: the median, and its spread."""
    ratios = [
        median(its / mine for its, mine in zip(*costs, strict=True))
        for costs in zip(theirs, ours, strict=True)
    ]
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
        print(f"\n{name}: of ours, a request uses {shown}")
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
        "aiofastlock": round(median(map(median, ours)), 2),
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
        return "too few rounds to tell"
    if differs(row["itself"]):
        return "too noisy to tell: asyncio differs from itself"
    return "a difference" if differs(row) else "no difference within the noise"


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    columns = f"{'asyncio':>12}{'aiofastlock':>14}   {'change':26}asyncio against itself"
    print(f"\n{'processor time a request':32}{columns}")
    for row in rows:
        figures = f"{row['asyncio']:9.1f} us{row['aiofastlock']:11.1f} us"
        print(f"{row['program']:32}{figures}   {show(row):26}{show(row['itself'])}")
        print(f"{'':61}{verdict(row)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", choices=PROGRAMS, help="only this one; writes no results")
    parser.add_argument("--quick", action="store_true", help="only try it; writes no results")
    arguments = parser.parse_args()
    rounds, runs = (1, 6) if arguments.quick else (ROUNDS, RUNS)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # stops what it has started
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
        sys.exit("nothing was measured")
    if not (arguments.program or arguments.quick):
        part = "programs" if aiofastlock.IMPLEMENTATION == "compiled" else "programs-pure"
        print(f"\nwrote {results.write(part, rows, left_out=left_out).name}")


if __name__ == "__main__":
    main()
