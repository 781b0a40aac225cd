"""python -m aiofastlock: show the implementation in use, and compare it with asyncio.

With --dump PID: show what another process waits for. With a program, such as `script.py args` or
`-m module args`: run it with aiofastlock installed.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as typing says it, which takes long to import
if TYPE_CHECKING:
    import argparse

FLAGS = ("--no-children", "--watch")
WITH_VALUE = ("--stuck-after", "--on-deadlock")


def main() -> None:
    options, program = split(sys.argv[1:])
    match program:
        case ["-c" | "-m", _, *_] | ["-", *_]:
            run(program, options)
        case [joined, *arguments] if joined[:2] in ("-c", "-m") and joined[2:]:
            run([joined[:2], joined[2:], *arguments], options)
        case [script, *_] if not script.startswith("-"):
            run(program, options)
        case _:
            other_than_run()


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return the options, and the program with its own."""
    number = 0
    while number < len(arguments):
        option = arguments[number].partition("=")[0]
        if option in WITH_VALUE:
            number += 1 if "=" in arguments[number] else 2
        elif option in FLAGS:
            number += 1
        else:
            break
    return arguments[:number], arguments[number:]


def run(program: list[str], options: list[str]) -> None:
    from aiofastlock import _run

    children = "--no-children" not in options
    if any(option != "--no-children" for option in options):
        watch(options, children)
    _run.run(program, children)


def watch(options: list[str], children: bool) -> None:
    """Watch the program, and the processes that it starts."""
    import os

    parser = make_parser()
    parsed = parser.parse_args(options)
    if not parsed.watch:
        parser.error("--stuck-after and --on-deadlock need --watch")

    from aiofastlock.watch import _watching

    setting = f"stuck_after={parsed.stuck_after},on_deadlock={parsed.on_deadlock}"
    try:
        _watching.start(stuck_after=parsed.stuck_after, on_deadlock=parsed.on_deadlock)
    except ValueError as error:
        parser.error(str(error))
    if children:
        os.environ["AIOFASTLOCK_WATCH"] = setting


def other_than_run() -> None:
    """Do what the options say if there is no program."""
    parser = make_parser()
    options = parser.parse_args()
    if options.dump is not None:
        from aiofastlock.watch import _remote

        sys.stdout.write(_remote.dump(options.dump))
        return
    for name in ("no_children", "watch"):
        if getattr(options, name):
            parser.error(f"--{name.replace('_', '-')} needs a program")
    compare()


def make_parser() -> argparse.ArgumentParser:
    import argparse
    import platform

    import aiofastlock

    parser = argparse.ArgumentParser(
        "python -m aiofastlock",
        usage="%(prog)s [-h | --version | --dump PID]\n"
        "       %(prog)s [option ...] script.py [argument ...]\n"
        "       %(prog)s [option ...] -m module [argument ...]\n"
        "       %(prog)s [option ...] -c code [argument ...]\n"
        "       %(prog)s [option ...] - [argument ...]",
        description="Run a program with aiofastlock's classes in place of asyncio's, as Python "
        "runs it: a script, a module, code, or what standard input contains (-). Without a "
        "program, show which implementation is in use, and compare it with asyncio (45 s).",
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
    parser.add_argument(
        "--watch",
        action="store_true",
        help="report deadlocks, and what is stuck (aiofastlock.watch)",
    )
    parser.add_argument(
        "--stuck-after",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="with --watch: report a lock that does not move for so long while tasks wait for it "
        "(default: 30)",
    )
    parser.add_argument(
        "--on-deadlock",
        choices=("log", "raise"),
        default="log",
        help="with --watch: report a deadlock, or raise DeadlockError in the task that is about to "
        "wait forever (default: log)",
    )
    parser.add_argument(
        "--dump",
        type=int,
        metavar="PID",
        help="show what another process waits for (from Python 3.14 on)",
    )
    for option in ("-c", "-m"):
        parser.add_argument(option, help=argparse.SUPPRESS)
    return parser


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
