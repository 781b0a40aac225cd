"""Runs a program with aiofastlock installed, and otherwise as `python` itself runs it.

sys.argv, sys.path, `__main__`, messages, tracebacks and exit codes are those of a bare `python`.
"""

from __future__ import annotations

import os
import runpy
import sys
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader
from pkgutil import get_importer
from types import TracebackType
from typing import Any

import aiofastlock

# The interpreter itself calls it for `-m`, and for a directory or a zip file.
run_as_main = runpy._run_module_as_main  # type: ignore[attr-defined]


def run(arguments: list[str]) -> None:
    """Run the program of a command line, `script.py args` or `-m module args`, as `__main__`.

    Exceptions of the program propagate, so that the interpreter reports them and exits.
    """
    aiofastlock.install()
    main = vars(sys.modules["__main__"])  # made what it is when the interpreter starts
    for name in list(main):
        if not name.startswith("__") or name in ("__file__", "__cached__"):
            del main[name]
    main.update(__doc__=None, __loader__=BuiltinImporter, __package__=None, __spec__=None)
    try:
        if arguments[0] == "-m":
            sys.argv[:] = ["-m", *arguments[2:]]
            run_as_main(arguments[1])
        else:
            sys.argv[:] = arguments
            if not sys.flags.safe_path:
                del sys.path[0]  # the directory that is for `-m`
            path = os.path.join(os.getcwd(), arguments[0])
            if get_importer(path) is not None:
                sys.path.insert(0, path)
                run_as_main("__main__", alter_argv=False)
            else:
                run_script(path, main)
    except SystemExit:
        raise
    except BaseException as exception:
        report_from(exception.__traceback__)
        raise


def run_script(path: str, main: dict[str, object]) -> None:
    if not sys.flags.safe_path:
        sys.path.insert(0, os.path.dirname(os.path.realpath(path)))
    loader: SourceFileLoader | SourcelessFileLoader
    code: Any
    try:
        if path.endswith(".pyc"):
            loader = SourcelessFileLoader("__main__", path)
            code = loader.get_code("__main__")
        else:
            loader = SourceFileLoader("__main__", path)
            code = compile(loader.get_data(path), path, "exec", dont_inherit=True)
    except OSError as error:
        python = sys.orig_argv[0]
        reason = f"[Errno {error.errno}] {error.strerror}"
        print(f"{python}: can't open file {path!r}: {reason}", file=sys.stderr)
        sys.exit(2)
    main.update(__file__=path, __loader__=loader)
    if sys.version_info < (3, 15):
        main["__cached__"] = None
    exec(code, main)


def report_from(traceback: TracebackType | None) -> None:
    """Make sys.excepthook report the current exception without aiofastlock's own frames."""
    while traceback is not None and traceback.tb_frame.f_globals is globals():
        traceback = traceback.tb_next
    report = sys.excepthook

    def hook(kind: type[BaseException], exception: BaseException, _: TracebackType | None) -> None:
        sys.excepthook = report
        sys.last_traceback = traceback
        report(kind, exception.with_traceback(traceback), traceback)

    sys.excepthook = hook
