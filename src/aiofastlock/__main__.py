"""python -m aiofastlock: which half is in use on this Python, and how it compares with asyncio."""

import argparse

from aiofastlock import _benchmark


def main() -> None:
    description = "Say which half of aiofastlock is in use, and compare it with asyncio (40 s)."
    argparse.ArgumentParser("python -m aiofastlock", description=description).parse_args()
    _benchmark.print_environment()
    _benchmark.print_table()


if __name__ == "__main__":
    main()
