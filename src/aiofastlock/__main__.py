"""python -m aiofastlock: show the implementation in use, and compare it with asyncio.

With a program, such as `script.py args` or `-m module args`: run it with aiofastlock installed.
"""

import sys


def main() -> None:
    match sys.argv[1:]:
        case ["--no-children", *program]:
            children = False
        case program:
            children = True
    match program:
        case ["-c" | "-m", _, *_] | ["-", *_]:
            run(program, children)
        case [joined, *arguments] if joined[:2] in ("-c", "-m") and joined[2:]:
            run([joined[:2], joined[2:], *arguments], children)
        case [script, *_] if not script.startswith("-"):
            run(program, children)
        case _:
            parse_options()
            compare()


def run(program: list[str], children: bool) -> None:
    from aiofastlock import _run

    _run.run(program, children)


def parse_options() -> None:
    """Exit, unless there are no arguments at all."""
    import argparse
    import platform

    import aiofastlock

    parser = argparse.ArgumentParser(
        "python -m aiofastlock",
        usage="%(prog)s [-h | --version]\n"
        "       %(prog)s [--no-children] script.py [argument ...]\n"
        "       %(prog)s [--no-children] -m module [argument ...]\n"
        "       %(prog)s [--no-children] -c code [argument ...]\n"
        "       %(prog)s [--no-children] - [argument ...]",
        description="Run a program with aiofastlock's classes in place of asyncio's, as Python "
        "runs it: a script, a module, code, or what standard input contains (-). Without a "
        "program, show which implementation is in use, and compare it with asyncio (40 s).",
        epilog="Python's own options go before -m aiofastlock.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"aiofastlock {aiofastlock.__version__} ({aiofastlock.IMPLEMENTATION}), "
        f"{platform.python_implementation()} {platform.python_version()}",
        help="show the versions of aiofastlock and Python, and exit",
    )
    parser.add_argument(
        "--no-children",
        action="store_true",
        help="do not install aiofastlock in the Python processes that the program starts",
    )
    for option in ("-c", "-m"):
        parser.add_argument(option, help=argparse.SUPPRESS)
    if parser.parse_args().no_children:
        parser.error("--no-children needs a program")


def compare() -> None:
    try:
        import aiofastlock
        from aiofastlock import _benchmark

        aiofastlock.uninstall()  # a .pth file may have imported aiofastlock.auto
        _benchmark.print_environment()
        _benchmark.print_table()
    except KeyboardInterrupt:
        # What was interrupted half-way, such as the creation of a loop, may complain when freed.
        sys.unraisablehook = lambda unraisable: None
        print("Interrupted", file=sys.stderr)
        sys.exit(130)  # as a shell reports SIGINT


if __name__ == "__main__":
    main()
