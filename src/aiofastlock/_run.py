"""Runs a program with aiofastlock installed, and otherwise as `python` itself runs it.

sys.argv, sys.path, `__main__`, messages, tracebacks and exit codes are those of a bare `python`.
"""

from __future__ import annotations

import builtins
import linecache
import os
import runpy
import sys
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader
from pkgutil import get_importer
from types import FrameType, ModuleType, TracebackType
from typing import Any

import aiofastlock

WINDOWS = os.name == "nt"  # where the interpreter normalises a script's path, and follows no link

# The interpreter itself calls it for `-m`, and for a directory or a zip file.
run_as_main = runpy._run_module_as_main  # type: ignore[attr-defined]


def run(program: list[str], children: bool) -> None:
    """Run the program of a command line, such as `script.py args`, as `__main__`.

    Exceptions of the program propagate, so that the interpreter reports them and exits.
    """
    aiofastlock.install()
    reach_children(children)
    if not started_by_interpreter():
        run_beside_the_caller(program)
        return
    main = vars(sys.modules["__main__"])  # made what it is when the interpreter starts
    for name in list(main):
        if not name.startswith("__") or name in ("__file__", "__cached__"):
            del main[name]
    main.update(__doc__=None, __loader__=BuiltinImporter, __package__=None, __spec__=None)
    if program[0] != "-m" and not sys.flags.safe_path:
        del sys.path[0]  # the directory that is for `-m`
    try:
        run_program(program, main)
    except SystemExit:
        raise
    except BaseException as exception:
        report_from(exception.__traceback__)
        raise


def reach_children(wanted: bool) -> None:
    """Make Python import _children/sitecustomize.py in the processes that the program starts."""
    directory = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_children")
    before = os.environ.get("PYTHONPATH")
    entries = before.split(os.pathsep) if before else []
    entries = [directory] * wanted + [entry for entry in entries if entry != directory]
    if entries:
        os.environ["PYTHONPATH"] = os.pathsep.join(entries)
    elif before:
        del os.environ["PYTHONPATH"]


def started_by_interpreter() -> bool:
    """Return whether `__main__` was made for aiofastlock, and not by a profiler or debugger."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_globals.get("__package__") == "aiofastlock":
        frame = frame.f_back
    caller = frame and frame.f_back  # of runpy._run_code()
    return caller is not None and caller.f_code is run_as_main.__code__


def run_beside_the_caller(program: list[str]) -> None:
    """Give the program a `__main__` of its own, and then restore what the caller had."""
    before = sys.modules["__main__"], sys.argv[:], sys.path[:]
    module = sys.modules["__main__"] = ModuleType("__main__")
    module.__dict__.update(__builtins__=builtins, __loader__=BuiltinImporter)
    try:
        run_program(program, vars(module))
    finally:
        sys.modules["__main__"], sys.argv[:], sys.path[:] = before


def run_program(program: list[str], main: dict[str, Any]) -> None:
    match program:
        case ["-m", module, *arguments]:
            sys.argv[:] = ["-m", *arguments]
            run_as_main(module)
        case ["-c", code, *arguments]:
            sys.argv[:] = ["-c", *arguments]
            run_code(code, main)
        case ["-", *_]:
            sys.argv[:] = program
            run_standard_input(main)
        case [name, *_]:
            sys.argv[:] = program
            path = os.path.abspath(name) if WINDOWS else os.path.join(os.getcwd(), name)
            if get_importer(path) is not None:
                sys.path.insert(0, path)
                run_as_main("__main__", alter_argv=False)
            else:
                run_script(path, main)


def put_on_path(directory: str) -> None:
    if not sys.flags.safe_path:
        sys.path.insert(0, directory)


def run_code(source: str, main: dict[str, Any]) -> None:
    put_on_path("")
    if sys.version_info >= (3, 14):
        import textwrap

        source = textwrap.dedent(source)
    code = compile(source, "<string>", "exec", dont_inherit=True)
    if sys.version_info >= (3, 13):  # tracebacks show the source
        key = code if hasattr(linecache, "_interactive_cache") else "<string>"
        linecache._register_code(key, source, "<string>")  # type: ignore[attr-defined]
    exec(code, main)


def run_standard_input(main: dict[str, Any]) -> None:
    put_on_path(os.getcwd() if WINDOWS else "")
    if sys.stdin is not None and sys.stdin.isatty():
        import code

        code.interact(local=main, exitmsg="")
        return
    source = b"" if sys.stdin is None else sys.stdin.buffer.read()
    main["__file__"] = "<stdin>"
    if sys.version_info < (3, 15):
        main["__cached__"] = None
    exec(compile(source, "<stdin>", "exec", dont_inherit=True), main)


def run_script(path: str, main: dict[str, Any]) -> None:
    put_on_path(os.path.dirname(path if WINDOWS else os.path.realpath(path)))
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
