"""python -m aiofastlock: which half is in use on this Python, and how it compares with asyncio.

With a program, `script.py args` or `-m module args`: run it, with our classes in asyncio's place.
"""

import sys


def main() -> None:
    match sys.argv[1:]:
        case ["-m", _, *_] as program:
            run(program)
        case [script, *_] as program if not script.startswith("-"):
            run(program)
        case _:
            compare()


def run(program: list[str]) -> None:
    from aiofastlock import _run

    _run.run(program)


def compare() -> None:
    import argparse

    import aiofastlock
    from aiofastlock import _benchmark

    argparse.ArgumentParser(
        "python -m aiofastlock",
        usage="%(prog)s [-h] [script.py [argument ...] | -m module [argument ...]]",
        description="Run a program with our classes in asyncio's place. Without a program, say "
        "which half of aiofastlock is in use, and compare it with asyncio (40 s).",
    ).parse_args()
    aiofastlock.uninstall()  # in case Python's start has imported aiofastlock.auto
    _benchmark.print_environment()
    _benchmark.print_table()


if __name__ == "__main__":
    main()
