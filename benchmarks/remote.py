"""Hand over a key of a Redis server, between tasks of a process and between processes.

    python benchmarks/remote.py [--seconds SECONDS]

Every task enters the block again and again. The table tells how many microseconds pass from one
entry to the next, whoever enters. It compares aiofastlock.redis with the Lock of redis-py, which
asks every 100 milliseconds by default and, in another column, every millisecond. It starts a
redis-server, which must be installed.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from pathlib import Path

from redis.asyncio import Redis

import aiofastlock
from aiofastlock.redis import KeyedLock

sys.path.append(str(Path(__file__).parent.parent / "tests"))
import servers

SLEEPS = {"redis-py": 0.1, "redis-py, sleep=0.001": 0.001}
WAYS = ("aiofastlock.redis", *SLEEPS)
SCENES = {"1 process, 1 task": (1, 1), "1 process, 20 tasks": (1, 20)}
SCENES |= {"2 processes, 1 task each": (2, 1), "4 processes, 20 tasks each": (4, 20)}


async def enter_again(new_lock, until):
    entered = 0
    while time.time() < until:
        async with new_lock():
            entered += 1
    return entered


async def child(address, way, tasks, begin, seconds):
    """Enter from then on for so long, and print how often this process has entered."""
    async with Redis(unix_socket_path=address) as client:
        if way in SLEEPS:
            # One object has one holder, so that each entry needs its own.
            def new_lock():
                return client.lock("key", timeout=30, sleep=SLEEPS[way])
        else:
            locks = KeyedLock(client)

            def new_lock():
                return locks["key"]

        await client.ping()
        await asyncio.sleep(begin - time.time())
        entered = await asyncio.gather(
            *[enter_again(new_lock, begin + seconds) for _ in range(tasks)]
        )
    print(sum(entered))


def measure(address, way, processes, tasks, seconds):
    begin = time.time() + 1.5  # when all have been started
    arguments = [str(argument) for argument in (address, way, tasks, begin, seconds)]
    command = [sys.executable, __file__, "--child", *arguments]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    entered = [int(process.communicate()[0]) for process in started]
    return seconds / sum(entered) * 1e6, min(entered) / statistics.mean(entered)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2, help="for each figure (default: 2)")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        address, way, tasks, begin, seconds = options.child
        asyncio.run(child(address, way, int(tasks), float(begin), float(seconds)))
        return
    version = ".".join(map(str, sys.version_info[:3]))
    print(f"Python {version}, {aiofastlock.IMPLEMENTATION} implementation. Microseconds from one")
    print("entry to the next; in brackets, the share of the process that entered least, of 1.\n")
    print("| | " + " | ".join(WAYS) + " |")
    print("| --- |" + " ---: |" * len(WAYS))
    with servers.redis() as server:
        for scene, (processes, tasks) in SCENES.items():
            cells = []
            for way in WAYS:
                took, share = measure(server.address, way, processes, tasks, options.seconds)
                cells.append(f"{took:,.1f}" + (f" ({share:.2f})" if processes > 1 else ""))
            print(f"| {scene} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
