"""python -m aiofastlock: show the implementation in use, and compare it with asyncio.

With a program, `script.py args` or `-m module args`: run it with aiofastlock's classes installed.
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
        description="Run a program with aiofastlock's classes in place of asyncio's. Without a "
        "program, show which implementation is in use, and compare it with asyncio (40 s).",
    ).parse_args()
    aiofastlock.uninstall()  # a .pth file may have imported aiofastlock.auto
    _benchmark.print_environment()
    _benchmark.print_table()


if __name__ == "__main__":
    main()
