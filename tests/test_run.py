"""`python -m aiofastlock PROGRAM` has the same output and exit code as `python PROGRAM`."""

import os
import platform
import signal
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from conftest import SWITCHES

import aiofastlock

cpython = sys.implementation.name == "cpython"
on_posix = pytest.mark.skipif(os.name != "posix", reason="needs signals, links and fork()")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The directory in which the programs are written and run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments, stdin="", **environment):
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


def run_both(*arguments, options=(), **others):
    """Run a program both ways, and return the result of the bare interpreter."""
    bare = run(*options, *arguments, **others)
    ours = run(*options, "-m", "aiofastlock", *arguments, **others)
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
print(globals().get("__file__", "no file"), globals().get("__cached__", "not cached"), __package__)
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


OPTIONS = pytest.mark.parametrize("options", [(), ("-P",)], ids=" ".join)


@OPTIONS
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
        "-mpackage.module",
    ],
)
@pytest.mark.usefixtures("programs")
def test_what_a_program_knows_about_itself(program, options):
    bare = run_both(*program.split(), "--help", "-m", "x", "", "--", "-x", options=options)
    assert bare.returncode == (1 if options == ("-P",) and program.startswith("-m") else 0)
    assert bare.returncode or "'--help', '-m', 'x', '', '--', '-x'" in bare.stdout


@OPTIONS
@pytest.mark.parametrize("program", [["-c", TELL], ["-c" + TELL], ["-"]], ids=["-c", "-ccode", "-"])
@pytest.mark.usefixtures("here")
def test_what_code_knows_about_itself(program, options):
    bare = run_both(*program, "-c", "", "--", "-x", options=options, stdin=TELL)
    assert (bare.returncode, bare.stderr) == (0, "")
    assert bare.stdout.startswith(f"['{program[0][:2]}', '-c', '', '--', '-x'] [")


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


FAILURES = pytest.mark.parametrize(
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


@WAYS
@FAILURES
def test_traceback(script, way, code, last_line):
    script(code)
    bare = run_both(*way.split())
    assert bare.returncode == 1
    assert last_line in bare.stderr.splitlines()[-1]


@FAILURES
@pytest.mark.usefixtures("here")
def test_traceback_of_code(code, last_line):
    bare = run_both("-c", code)
    assert bare.returncode == 1
    assert last_line in bare.stderr.splitlines()[-1]


@pytest.mark.parametrize("code", ["def f():\n    1 / 0\nf()", "x = = 1", "print(1"])
@pytest.mark.usefixtures("here")
def test_traceback_of_standard_input(code):
    bare = run_both("-", stdin=code)
    assert bare.returncode == 1
    assert 'File "<stdin>", line' in bare.stderr


@pytest.mark.parametrize(
    "code", ["  print(1)\n \n  if 1:\n    print(2)\n", "\tprint(1)", "", "# only this"]
)
@pytest.mark.usefixtures("here")
def test_indented_code(code):
    bare = run_both("-c", code)
    assert ("unexpected indent" in bare.stderr) == (
        sys.version_info < (3, 14) and code[:1] in (" ", "\t")
    )


@on_posix
@pytest.mark.usefixtures("here")
def test_a_terminal_as_standard_input():
    import pty

    controller, terminal = pty.openpty()
    os.write(controller, b"import asyncio\n(asyncio.Lock.__module__, __name__)\n\x04")
    command = [sys.executable, "-m", "aiofastlock", "-"]
    done = subprocess.run(command, stdin=terminal, capture_output=True, text=True, check=False)
    os.close(controller)
    os.close(terminal)
    assert (done.returncode, "('aiofastlock', '__main__')" in done.stdout) == (0, True)


@on_posix
@pytest.mark.skipif(not cpython, reason="PyPy itself does not start without standard input")
def test_no_standard_input():
    command = [sys.executable, "-m", "aiofastlock", "-"]
    done = subprocess.run(
        command, preexec_fn=lambda: os.close(0), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


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


CALLERS = {
    "run_module": "runpy.run_module('aiofastlock', run_name='__main__')",
    "alter_sys": "runpy.run_module('aiofastlock', run_name='__main__', alter_sys=True)",
}


@pytest.mark.parametrize(
    "program", [["script.py"], ["-m", "script"], ["-c", "import script"], ["-"]]
)
@pytest.mark.parametrize("caller", CALLERS.values(), ids=CALLERS)
def test_a_caller_keeps_its_globals(script, here, caller, program):
    script("""
import sys
module = sys.modules["__main__"]
assert not vars(module).keys() & {"main", "before", "lists"}
assert type(module.__builtins__) is type(sys)
assert module.__loader__
print(sys.argv)
""")
    (here / "caller.py").write_text(f"""
import runpy, sys
main = sys.modules["__main__"]
lists = sys.argv[:], sys.path[:]
before = dict(vars(main))
{caller}
assert sys.modules["__main__"] is main
assert vars(main) == dict(before, before=before)
assert (sys.argv, sys.path) == lists
assert sys.excepthook is sys.__excepthook__
print("done")
""")
    done = run("caller.py", *program, "x", stdin="import script")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("'x']\ndone\n")


@pytest.mark.parametrize("caller", CALLERS.values(), ids=CALLERS)
def test_a_caller_catches_an_exception(script, here, caller):
    script("1 / 0")
    (here / "caller.py").write_text(f"""
import runpy, sys
try:
    {caller}
except ZeroDivisionError:
    print(sys.modules["__main__"].__file__.endswith("caller.py"))
    print(sys.excepthook is sys.__excepthook__)
""")
    done = run("caller.py", "script.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\nTrue\n", "")


OF_MAIN = """
import asyncio, pickle, sys
class Point:
    pass
point = pickle.loads(pickle.dumps(Point()))
print(asyncio.Lock.__module__, type(point) is Point, __name__, sys.argv)
"""
SEEN = "aiofastlock True __main__ ['script.py', 'x']"


def test_cprofile(script):
    script(OF_MAIN)
    done = run("-m", "cProfile", "-m", "aiofastlock", "script.py", "x")
    assert (done.returncode, done.stderr) == (0, "")
    first, second, *_ = done.stdout.splitlines()
    assert (first, "function calls" in second) == (SEEN, True)
    assert "script.py:3(Point)" in done.stdout


def test_trace(script):
    script(OF_MAIN)
    done = run("-m", "trace", "--trace", "--module", "aiofastlock", "script.py", "x")
    assert (done.returncode, done.stderr) == (0, "")
    lines = " ".join(done.stdout.split())  # the spaces after the number vary
    assert "script.py(3): class Point: " in lines
    assert "script.py(6): print(asyncio.Lock.__module__" in lines


def test_trace_that_counts(script, here):
    script(OF_MAIN)
    command = ["--count", "--coverdir", "counts", "--module", "aiofastlock", "script.py", "x"]
    done = run("-m", "trace", *command)
    assert (done.returncode, done.stdout, done.stderr) == (0, SEEN + "\n", "")
    [counts] = (here / "counts").glob("*script.cover")
    assert "    1: point = pickle" in counts.read_text()


def test_pdb(script):
    script(OF_MAIN)
    commands = "b script.py:6\nc\np 'Point' in globals(), type(point).__name__\nc\nc\nq\n"
    done = run("-m", "pdb", "-m", "aiofastlock", "script.py", "x", stdin=commands)
    assert (done.returncode, done.stderr) == (0, "")
    assert "(True, 'Point')" in done.stdout
    # The program ended, started again, and ran up to the breakpoint.
    assert SEEN in done.stdout
    assert done.stdout.count("-> print(asyncio.Lock.__module__") == 2


START = """
import asyncio, multiprocessing, subprocess, sys
class Point:
    pass
def tell(point):
    print(asyncio.Lock.__module__, type(point).__module__, sys.argv, flush=True)
if __name__ == "__main__":
    method = sys.argv[1]
    if method == "subprocess":
        code = "from script import *; tell(1)"
        sys.exit(subprocess.call([sys.executable, "-W", "error", "-c", code]))
    context = multiprocessing.get_context(method)
    child = context.Process(target=tell, args=(Point(),))
    child.start()
    child.join()
    sys.exit(child.exitcode)
"""
CHILDREN = {
    "subprocess": "builtins",
    "spawn": "__mp_main__",
    "forkserver": "__mp_main__",
    "fork": "__main__",
}
ON_POSIX = ("forkserver", "fork")


METHODS = pytest.mark.parametrize(
    "method", [pytest.param(name, marks=on_posix if name in ON_POSIX else ()) for name in CHILDREN]
)


def start_child(method, *command, **environment):
    """Return the module of the child's asyncio.Lock."""
    done = run("-W", "ignore", "-m", "aiofastlock", *command, method, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    module, of_argument, *_ = done.stdout.split()
    assert of_argument == CHILDREN[method]
    return module


@WAYS
@METHODS
@pytest.mark.parametrize("implementation", SWITCHES)
def test_children(script, way, implementation, method):
    script(START)
    switch = SWITCHES[implementation]
    assert start_child(method, *way.split(), AIOFASTLOCK_EXTENSIONS=switch) == "aiofastlock"


@METHODS
def test_no_children(script, method):
    script(START)
    module = start_child(method, "--no-children", "script.py")
    assert module == ("aiofastlock" if method == "fork" else "asyncio.locks")


def run_child(code, *, python=sys.executable, options=(), child_environment=(), **environment):
    """Run code in a child of a program that the runner runs."""
    program = f"""
import os, subprocess, sys
command = {[str(python), *options, "-c", code]!r}
sys.exit(subprocess.call(command, env=dict(os.environ, **{dict(child_environment)!r})))
"""
    return run("-m", "aiofastlock", "-c", program, **environment)


@pytest.mark.parametrize(
    "statement",
    [
        "import asyncio",
        "import asyncio.events",
        "from asyncio import Lock",
        "from asyncio.locks import Lock",
        "import aiofastlock",
        "import aiofastlock.auto",
        "from aiofastlock import Lock",
        "import asyncio, importlib; importlib.reload(asyncio)",
    ],
)
def test_first_import_of_a_child(here, statement):
    code = f"""
{statement}
import asyncio.locks, aiofastlock
assert asyncio.Lock is asyncio.locks.Lock is aiofastlock.Lock
assert globals().get("Lock", aiofastlock.Lock) is aiofastlock.Lock
from importlib.machinery import SourceFileLoader
for module in asyncio, aiofastlock:
    assert type(module.__spec__.loader) is type(module.__loader__) is SourceFileLoader
"""
    done = run_child(code, options=["-W", "error"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_child_that_imports_neither(here):
    code = """
import sys
assert not {"asyncio", "aiofastlock", "sitecustomize"} & set(sys.modules)
from importlib.util import find_spec
for name in "asyncio", "aiofastlock":
    assert find_spec(name).loader.is_package(name)
assert "asyncio" not in sys.modules
"""
    done = run_child(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_child_in_which_asyncio_comes_before_sitecustomize(here):
    code = """
import asyncio, site, sys
assert asyncio.Lock.__module__ == "asyncio.locks"
site.main()
assert asyncio.Lock.__module__ == "aiofastlock"
"""
    done = run_child(code, options=["-S"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


CHILD = """
import os, subprocess, sys
before = os.environ.get("PYTHONPATH")
os.environ["PYTHONPATH"] = os.pathsep.join([*filter(None, [before]), "elsewhere", "path"])
code = "import sys; print(sys.path, 'sitecustomize' in sys.modules); import sitecustomize"
sys.exit(subprocess.call([sys.executable, "-c", code + "; print(sitecustomize.__file__)"]))
"""


@pytest.mark.parametrize(
    ("source", "returncode"),
    [
        (None, 1),
        ("print('found', __name__)", 0),
        ("1 / 0", 1),
        ("import missing", 1),
    ],
)
def test_the_next_sitecustomize(script, here, source, returncode):
    """A child has the sys.path and the sitecustomize module that it has without the runner."""
    script(CHILD)
    (here / "path").mkdir()
    if source:
        (here / "path" / "sitecustomize.py").write_text(source)
    bare = run_both("script.py")
    assert bare.returncode == returncode
    assert bare.stdout.startswith("found sitecustomize\n") == (returncode == 0)
    assert ("Error in sitecustomize" in bare.stderr) == (source in ("1 / 0", "import missing"))


@pytest.mark.parametrize(
    ("before", "after", "without"),
    [
        (None, "children", None),
        ("", "children", ""),
        ("a", "children a", "a"),
        ("a children b", "children a b", "a b"),
        ("children a children", "children a", "a"),
        ("children", "children", None),
    ],
)
@pytest.mark.usefixtures("here")
def test_python_path(before, after, without):
    children = str(Path(aiofastlock.__file__).with_name("_children"))

    def spell(words):
        return words and words.replace("children", children).replace(" ", os.pathsep)

    environment = {} if before is None else {"PYTHONPATH": spell(before)}
    for options, expected in ([], after), (["--no-children"], without):
        code = f"""
import os, runpy, sys
os.environ.pop("PYTHONPATH", None)  # aiofastlock may be found by it
os.environ.update({environment!r})
sys.argv = ["", *{options!r}, "-c", "import os; print(os.environ.get('PYTHONPATH'))"]
runpy.run_module("aiofastlock", run_name="__main__")
"""
        done = run("-c", code)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"{spell(expected)}\n"


def test_the_directory_on_python_path_makes_nothing_else_importable():
    directory = Path(aiofastlock.__file__).with_name("_children")
    assert {path.name for path in directory.iterdir()} <= {"sitecustomize.py", "__pycache__"}


def test_a_child_of_an_environment_without_aiofastlock(here):
    venv.create(here / "other", symlinks=os.name == "posix")
    python = here / "other" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    code = """
import asyncio
print(asyncio.Lock.__module__)
try:
    import aiofastlock
except ModuleNotFoundError as error:
    print(error.name)
"""
    done = run_child(code, python=python, options=["-W", "error"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "asyncio.locks\naiofastlock\n", "")


def test_a_child_in_which_aiofastlock_cannot_be_imported(here):
    code = "import asyncio; print(asyncio.Lock.__module__)"
    done = run_child(code, child_environment={"AIOFASTLOCK_EXTENSIONS": "2"})
    assert (done.returncode, done.stdout) == (0, "asyncio.locks\n")
    assert "RuntimeWarning: aiofastlock is not installed in this process: " in done.stderr
    assert "AIOFASTLOCK_EXTENSIONS must be unset, 0 or 1, not '2'" in done.stderr


@on_posix
@pytest.mark.skipif(
    not cpython, reason="PyPy ignores an interrupt in a weakref callback that gc.collect() calls"
)
def test_interrupt_of_the_comparison(here):
    code = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have set it to be ignored
sys.argv = [""]
runpy.run_module("aiofastlock", run_name="__main__")
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout.readline().startswith("aiofastlock ")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert (process.returncode, errors) == (130, "Interrupted\n")


@pytest.mark.parametrize("arguments", ["-h", "--help", "--no-children -h", "-h script.py"])
def test_help(arguments):
    done = run("-m", "aiofastlock", *arguments.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: python -m aiofastlock [-h | --version | --dump PID]\n")


@pytest.mark.parametrize("implementation", SWITCHES)
def test_version(implementation):
    done = run("-m", "aiofastlock", "--version", AIOFASTLOCK_EXTENSIONS=SWITCHES[implementation])
    assert (done.returncode, done.stderr) == (0, "")
    python = f"{platform.python_implementation()} {platform.python_version()}"
    assert done.stdout == f"aiofastlock {aiofastlock.__version__} ({implementation}), {python}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--nonsense", "unrecognized arguments: --nonsense"),
        ("-x script.py", "unrecognized arguments: -x script.py"),
        ("-W error script.py", "unrecognized arguments: -W error script.py"),
        ("--no-child script.py", "unrecognized arguments: --no-child script.py"),
        ("-c", "argument -c: expected one argument"),
        ("-m", "argument -m: expected one argument"),
        ("--no-children", "--no-children needs a program"),
        ("--no-children -m", "argument -m: expected one argument"),
    ],
)
def test_wrong_arguments(arguments, message):
    done = run("-m", "aiofastlock", *arguments.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: python -m aiofastlock")
    assert done.stderr.endswith(f"\npython -m aiofastlock: error: {message}\n")
