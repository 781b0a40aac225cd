"""`python -m aiofastlock PROGRAM` has the same output and exit code as `python PROGRAM`."""

import os
import signal
import subprocess
import sys
import zipfile

import pytest
from conftest import SWITCHES

cpython = sys.implementation.name == "cpython"
on_posix = pytest.mark.skipif(os.name != "posix", reason="needs signals, links and fork()")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The directory in which the programs are written and run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def run_both(*arguments, options=()):
    """Run a program both ways, and return the result of the bare interpreter."""
    bare = run(*options, *arguments)
    ours = run(*options, "-m", "aiofastlock", *arguments)
    assert ours.stdout == bare.stdout
    assert ours.stderr == bare.stderr
    assert ours.returncode == bare.returncode
    return bare


TELL = """
import sys
main = sys.modules["__main__"]
print(sys.argv, sys.path)
print(main, sorted(vars(main)) == sorted(globals()), type(__builtins__), __name__, __doc__)
print(sorted(globals()))
print(__file__, globals().get("__cached__", "not cached"), __package__)
print(__spec__ and (__spec__.name, __spec__.origin), type(__loader__).__name__)
print(getattr(__loader__, "name", None))
"""


@pytest.fixture
def programs(here):
    """Programs of every kind that print what they know about themselves."""
    (here / "script.py").write_text(TELL)
    (here / "documented.py").write_text('"""What it is."""' + TELL)
    (here / "package").mkdir()
    for name in ("__init__", "__main__", "module"):
        (here / "package" / f"{name}.py").write_text(TELL)
    (here / "directory").mkdir()
    (here / "directory" / "__main__.py").write_text(TELL)
    with zipfile.ZipFile(here / "archive.zip", "w") as archive:
        archive.writestr("__main__.py", TELL)
    (here / "elsewhere").mkdir()
    if os.name == "posix":
        (here / "elsewhere" / "link.py").symlink_to(here / "script.py")


@pytest.mark.parametrize("options", [(), ("-P",)], ids=" ".join)
@pytest.mark.parametrize(
    "program",
    [
        "script.py",
        "./script.py",
        "elsewhere/../script.py",
        "documented.py",
        "directory",
        "archive.zip",
        pytest.param("elsewhere/link.py", marks=on_posix),
        "-m script",
        "-m package",
        "-m package.module",
    ],
)
@pytest.mark.usefixtures("programs")
def test_what_a_program_knows_about_itself(program, options):
    bare = run_both(*program.split(), "--help", "-m", "x", "", "--", "-x", options=options)
    assert bare.returncode == (1 if options == ("-P",) and program.startswith("-m") else 0)
    assert bare.returncode or "'--help', '-m', 'x', '', '--', '-x'" in bare.stdout


@pytest.fixture
def script(here):
    """Return a function that writes script.py."""
    return (here / "script.py").write_text


WAYS = pytest.mark.parametrize("way", ["script.py", "-m script"], ids=["script", "module"])


@WAYS
@pytest.mark.parametrize(
    ("code", "returncode"),
    [
        ("raise SystemExit", 0),
        ("raise SystemExit(None)", 0),
        ("raise SystemExit(3)", 3),
        ("raise SystemExit('text')", 1),
        ("raise SystemExit((1, 2))", 1),
        ("import atexit; atexit.register(print, 'at exit'); import sys; sys.exit(4)", 4),
        ("import atexit; atexit.register(print, 'at exit'); 1 / 0", 1),
        ("import os; os._exit(5)", 5),
        ("import atexit, sys; atexit.register(lambda: print(sys.excepthook)); sys.exit(6)", 6),
    ],
)
def test_exit_code(script, way, code, returncode):
    script(code)
    assert run_both(*way.split()).returncode == returncode


@WAYS
@pytest.mark.parametrize(
    ("code", "last_line"),
    [
        ("def f():\n    1 / 0\nf()", "ZeroDivisionError: division by zero"),
        ("try:\n    1 / 0\nfinally:\n    [][0]", "IndexError: list index out of range"),
        ("raise OSError('x') from KeyError()", "OSError: x"),
        (
            "raise ExceptionGroup('both', [ValueError()])",
            "    +------------------------------------",
        ),
        ("raise BaseException", "BaseException"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("import missing", "ModuleNotFoundError: No module named 'missing'"),
        ("x = = 1", "SyntaxError: invalid syntax"),
        ("if True:\npass", "IndentationError: expected an indented block after 'if' statement"),
        ("print(1", "SyntaxError: '(' was never closed"),
    ],
)
def test_traceback(script, way, code, last_line):
    script(code)
    bare = run_both(*way.split())
    assert bare.returncode == 1
    assert last_line in bare.stderr.splitlines()[-1]


@pytest.mark.parametrize("program", ["directory", "archive.zip", "-m directory"])
@pytest.mark.usefixtures("programs")
def test_traceback_of_other_programs(here, program):
    (here / "directory" / "__main__.py").write_text("1 / 0")
    with zipfile.ZipFile(here / "archive.zip", "w") as archive:
        archive.writestr("__main__.py", "1 / 0")
    bare = run_both(*program.split())
    assert bare.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"


def test_hook_of_the_program(script):
    script("""
import atexit, sys, traceback
def hook(kind, exception, trace):
    print(kind, exception.__traceback__ is trace, sys.excepthook is hook, [sys.last_value])
    traceback.print_exception(exception)
    traceback.print_tb(sys.last_traceback)
sys.excepthook = hook
@atexit.register
def at_exit():
    print(sys.excepthook is hook, sys.last_value.__traceback__ is sys.last_traceback)
1 / 0
""")
    bare = run_both("script.py")
    assert "True True [ZeroDivisionError" in bare.stdout
    assert bare.stdout.endswith("True True\n")
    assert bare.stderr.count("<module>") == 2


@on_posix
@pytest.mark.parametrize("code", ["raise KeyboardInterrupt", "signal.raise_signal(signal.SIGINT)"])
def test_keyboard_interrupt(script, code):
    # A shell starts background processes with the signal ignored.
    script(f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {code}")
    bare = run_both("script.py")
    assert bare.stderr.endswith("KeyboardInterrupt\n")
    assert bare.returncode == -signal.SIGINT


@pytest.mark.parametrize(
    ("program", "returncode"),
    [
        ("missing.py", 2),
        ("missing/script.py", 2),
        ("elsewhere", 1),
        ("-m missing", 1),
        ("-m package.missing", 1),
        ("-m script.missing", 1),
        ("-m elsewhere", 1),
    ],
)
@pytest.mark.usefixtures("programs")
def test_a_program_that_does_not_exist(program, returncode):
    if not cpython and program.endswith(".py"):  # elsewhere the message has no quotes
        done = run("-m", "aiofastlock", program)
    else:
        done = run_both(*program.split())
    assert (done.returncode, done.stderr != "") == (returncode, True)


def test_compiled_script(script, here):
    script("print(__file__, __loader__.name, type(__loader__).__name__); 1 / 0")
    compile_it = "import py_compile; py_compile.compile('script.py', 'compiled.pyc')"
    subprocess.run([sys.executable, "-c", compile_it], check=True)
    assert "Sourceless" in run_both("compiled.pyc").stdout


def test_future_statements_of_the_runner_do_not_apply_to_the_script(script):
    script("def f(x: 1 + 1): pass\nprint(f.__annotations__)")
    assert run_both("script.py").stdout == "{'x': 2}\n"


@WAYS
def test_pickle_of_main(script, way):
    script("""
import pickle
class Point:
    pass
point = pickle.loads(pickle.dumps(Point()))
print(type(point) is Point, Point.__module__)
""")
    assert run_both(*way.split()).stdout == "True __main__\n"


@WAYS
@pytest.mark.parametrize("implementation", SWITCHES)
def test_the_classes_are_installed(script, way, implementation):
    script("""
import asyncio, sys
from asyncio import Lock
import aiofastlock
print(aiofastlock.IMPLEMENTATION, Lock is asyncio.locks.Lock is aiofastlock.Lock)
print("argparse" in sys.modules)  # the runner imports only what it needs
""")
    done = run("-m", "aiofastlock", *way.split(), AIOFASTLOCK_EXTENSIONS=SWITCHES[implementation])
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{implementation} True\nFalse\n", "")


START = """
import asyncio, multiprocessing, sys
class Point:
    pass
def tell(point):
    print(asyncio.Lock.__module__, type(point).__module__, sys.argv, flush=True)
if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    child = context.Process(target=tell, args=(Point(),))
    child.start()
    child.join()
    sys.exit(child.exitcode)
"""


@WAYS
@pytest.mark.parametrize("implementation", SWITCHES)
@pytest.mark.parametrize("method", ["spawn", pytest.param("fork", marks=on_posix)])
def test_children(script, way, implementation, method):
    """A forked process has aiofastlock's classes. A spawned one has asyncio's, and works."""
    script(START)
    command = ["-W", "ignore", "-m", "aiofastlock", *way.split(), method]
    done = run(*command, AIOFASTLOCK_EXTENSIONS=SWITCHES[implementation])
    assert (done.returncode, done.stderr) == (0, "")
    module, of_main, *_ = done.stdout.split()
    assert (module, of_main) == {
        "fork": ("aiofastlock", "__main__"),
        "spawn": ("asyncio.locks", "__mp_main__"),
    }[method]


@pytest.mark.parametrize("arguments", ["-h", "--help"])
def test_help(arguments):
    done = run("-m", "aiofastlock", arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: python -m aiofastlock [-h] [script.py [argument ...] |")


@pytest.mark.parametrize("arguments", ["-m", "-x script.py", "-", "-mscript"])
def test_unknown_arguments(arguments):
    done = run("-m", "aiofastlock", *arguments.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: python -m aiofastlock")
