"""aiofastlock.watch from outside: the command line, the environment, other processes, pytest."""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from conftest import SWITCHES

from aiofastlock.watch import _remote

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals")

from_3_14 = pytest.mark.skipif(not hasattr(sys, "remote_exec"), reason="needs Python 3.14")

HANG = """
import asyncio

import aiofastlock


class Account:
    def __init__(self):
        self.lock = aiofastlock.Lock()


async def transfer(source, target):
    async with source.lock:
        await asyncio.sleep(0)
        async with target.lock:
            pass


async def main():
    one, other = Account(), Account()
    await asyncio.gather(transfer(one, other), transfer(other, one))
"""
RUN = "\nprint('ready', flush=True)\nasyncio.run(main())\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hang.py").write_text(HANG + RUN)
    return tmp_path


@pytest.fixture(params=SWITCHES.values(), ids=SWITCHES)
def run(request, here):
    """Return a function that runs Python with one of the implementations."""

    def run(*arguments, **environment):
        return subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, "AIOFASTLOCK_EXTENSIONS": request.param, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=250,
        )

    run.switch = request.param
    return run


@contextlib.contextmanager
def started(run, *arguments, **environment):
    """Start a program, and wait until it has written something."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, "AIOFASTLOCK_EXTENSIONS": run.switch, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "ready\n", process.communicate()
        yield process
    finally:
        process.kill()
        process.communicate()


# ---- The command line and the environment ----


def test_raise(run):
    result = run("-m", "aiofastlock", "--watch", "--on-deadlock", "raise", "hang.py")
    assert result.returncode == 1
    assert "aiofastlock.watch.DeadlockError: Deadlock: 2 tasks wait for each other" in result.stderr
    assert "waits for Lock Account.lock, held for" in result.stderr


ON_TRIO = """
async def in_time():
    async with asyncio.timeout(0.1):
        await main()

@trio_asyncio.aio_as_trio
async def program():
    try:
        await in_time()
    except TimeoutError:
        await main()

async def on_trio():
    async with trio_asyncio.open_loop():
        await program()

trio.run(on_trio)
"""


def test_on_the_loop_of_trio_asyncio(run, here):
    """Only a timeout is waited for."""
    pytest.importorskip("trio_asyncio")
    (here / "hang.py").write_text(f"import trio\nimport trio_asyncio\n{HANG}{ON_TRIO}")
    result = run("hang.py", AIOFASTLOCK_WATCH="on_deadlock=raise")
    assert result.stderr.count("One of these tasks will be cancelled, which ends this.") == 1
    assert "aiofastlock.watch.DeadlockError: Deadlock: 2 tasks wait for each other" in result.stderr
    assert "turned off" not in result.stderr


def test_raise_by_the_environment(run):
    result = run("hang.py", AIOFASTLOCK_WATCH="on_deadlock=raise")
    assert result.returncode == 1
    assert "aiofastlock.watch.DeadlockError: Deadlock: 2 tasks wait for each other" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["hang.py"], {"AIOFASTLOCK_WATCH": "1"}),
        (["hang.py"], {"AIOFASTLOCK_WATCH": "stuck_after=5"}),
        (["-m", "aiofastlock", "--watch", "hang.py"], {}),
        (["-m", "aiofastlock", "--stuck-after=5", "--watch", "-m", "hang"], {}),
    ],
)
def test_log(run, arguments, environment):
    with started(run, *arguments, **environment) as process:
        # Without a handler, logging writes it to standard error.
        assert "Deadlock: 2 tasks wait for each other" in process.stderr.readline()


def test_the_processes_that_a_program_starts(run, here):
    (here / "parent.py").write_text(
        "import subprocess, sys\n"
        "sys.exit(subprocess.run([sys.executable, 'hang.py']).returncode + 10)\n"
    )
    options = ["--watch", "--on-deadlock=raise"]
    result = run("-m", "aiofastlock", *options, "parent.py")
    assert result.returncode == 11
    assert "DeadlockError" in result.stderr


def test_not_watched(run, here):
    (here / "program.py").write_text(
        "import sys, aiofastlock; sys.exit('aiofastlock.watch' in sys.modules)"
    )
    assert run("program.py").returncode == 0
    assert run("program.py", AIOFASTLOCK_WATCH="0").returncode == 0
    assert run("program.py", AIOFASTLOCK_WATCH="").returncode == 0
    assert run("-m", "aiofastlock", "program.py").returncode == 0
    assert run("program.py", AIOFASTLOCK_WATCH="1").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--watch"], "--watch needs a program"),
        (["--stuck-after", "5", "hang.py"], "--stuck-after and --on-deadlock need --watch"),
        (["--watch", "--stuck-after", "-5", "hang.py"], "above 0, not -5"),
        (["--watch", "--stuck-after", "x", "hang.py"], "invalid float value: 'x'"),
        (["--watch", "--on-deadlock", "x", "hang.py"], "invalid choice: 'x'"),
        (["--dump", "x"], "invalid int value: 'x'"),
    ],
)
def test_wrong_options(run, arguments, message):
    result = run("-m", "aiofastlock", *arguments)
    assert result.returncode == 2
    assert message in result.stderr


@pytest.mark.parametrize("value", ["yes", "stuck_after=x", "on_deadlock=x", "1,2"])
def test_a_wrong_environment(run, value):
    result = run("-c", "import aiofastlock", AIOFASTLOCK_WATCH=value)
    assert result.returncode == 1
    assert "ValueError: AIOFASTLOCK_WATCH must be unset, 0, 1, or settings" in result.stderr


# ---- Other processes ----

IDLE = """
import asyncio

import aiofastlock


async def hold(lock):
    async with lock:
        await asyncio.Event().wait()


async def main():
    lock = aiofastlock.Lock()
    await asyncio.gather(hold(lock), hold(lock), hold(lock))
"""


@from_3_14
@pytest.mark.parametrize("watched", ["0", "1"])
def test_a_dump_of_a_process(run, here, watched):
    (here / "idle.py").write_text(IDLE + RUN)
    with started(run, "idle.py", AIOFASTLOCK_WATCH=watched) as process:
        result = run("-m", "aiofastlock", "--dump", str(process.pid))
        assert (result.returncode, result.stderr) == (0, "")
        assert "Lock lock" in result.stdout
        assert "by Task-2 (hold), at" in result.stdout
        assert "1. Task-3 (hold) waits" in result.stdout
        assert "2. Task-4 (hold) waits" in result.stdout
        assert process.poll() is None
        assert ("not recorded" in result.stdout) == (watched == "0")


@from_3_14
def test_a_dump_of_a_process_that_cannot_be(run, here):
    (here / "other.py").write_text("import asyncio" + RUN.replace("main()", "asyncio.sleep(50)"))
    with started(run, "other.py") as process:
        result = run("-m", "aiofastlock", "--dump", str(process.pid))
        assert result.returncode == 1
        assert result.stderr == f"Process {process.pid} has not imported aiofastlock\n"
    result = run("-m", "aiofastlock", "--dump", str(process.pid))
    assert result.returncode == 1
    assert result.stderr == f"There is no process {process.pid}.\n"
    # Not of Python. The wheels' tests have a PATH without it.
    sleep = shutil.which("sleep", path=os.defpath)
    with subprocess.Popen([sleep, "250"]) as process:
        result = run("-m", "aiofastlock", "--dump", str(process.pid))
        process.kill()
    assert result.returncode == 1
    assert f"Process {process.pid} cannot be looked at: is it Python 3." in result.stderr


@pytest.mark.skipif(hasattr(sys, "remote_exec"), reason="that Python can")
def test_a_dump_before_3_14(run):
    result = run("-m", "aiofastlock", "--dump", "1")
    assert result.returncode == 1
    assert "kill -USR1 1" in result.stderr


def test_a_process_that_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(_remote, "LONGEST", 0.0)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(250)"])
    try:
        with pytest.raises(SystemExit, match="has not answered in 0 s: its main thread does not"):
            _remote.wait_for(tmp_path / "answer", process.pid)
    finally:
        process.kill()
        process.wait()
    with pytest.raises(SystemExit, match=f"^Process {process.pid} has ended.$"):
        _remote.wait_for(tmp_path / "answer", process.pid)


def test_a_process_of_another_user(monkeypatch):
    def refuse(pid, script):
        raise PermissionError

    monkeypatch.setattr(sys, "remote_exec", refuse, raising=False)
    with pytest.raises(SystemExit, match=f"^Process {os.getpid()} may not be looked at"):
        _remote.dump(os.getpid())


def test_a_python_that_cannot_look_into_others(monkeypatch):
    monkeypatch.delattr(sys, "remote_exec", raising=False)
    with pytest.raises(SystemExit, match="from Python 3.14 on it can. .* kill -USR1 1$"):
        _remote.dump(1)


def test_a_signal_while_the_loop_waits_or_is_blocked(run, here):
    for body in ("await asyncio.Event().wait()", "import time; time.sleep(50)"):
        (here / "idle.py").write_text(
            "import signal, aiofastlock.watch\n"
            "aiofastlock.watch.register(signal.SIGUSR1)\n"
            + IDLE.replace("await asyncio.Event().wait()", "print('ready', flush=True); " + body)
            + "asyncio.run(main())"
        )
        with started(run, "idle.py") as process:
            # Python does not notice one that comes just before a system call.
            process.send_signal(signal.SIGUSR1)
            while not select.select([process.stderr], [], [], 1)[0]:
                process.send_signal(signal.SIGUSR1)
            assert "is not recorded" in process.stderr.readline()
            assert process.poll() is None


# ---- asyncio's own tools ----


@from_3_14
def test_the_graph_of_asyncio(run):
    """`python -m asyncio pstree` shows the circle."""
    with started(run, "hang.py", AIOFASTLOCK_WATCH="stuck_after=0.2") as process:
        assert "Deadlock" in process.stderr.readline()
        command = [sys.executable, "-m", "asyncio", "pstree", str(process.pid)]
        for _ in range(100):
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if "permission" in result.stderr.lower():
                pytest.skip("this user may not read another process's memory")
            if "cycle" in result.stdout + result.stderr:
                break
            time.sleep(0.1)
        cycles = "Task-2 → Task-3 → Task-2", "Task-3 → Task-2 → Task-3"
        assert any(cycle in result.stdout + result.stderr for cycle in cycles)


@from_3_14
def test_the_edges_of_the_graph(run, here):
    (here / "program.py").write_text(
        textwrap.dedent("""
        import asyncio, time
        import aiofastlock
        from aiofastlock import watch
        from aiofastlock.watch import _watching

        def edges(task):
            return sorted(x.get_name() for x in task._asyncio_awaited_by or ())

        async def hold(lock, event):
            async with lock:
                await event.wait()

        async def main():
            watch.start()
            lock, events = aiofastlock.Lock(), [asyncio.Event() for _ in range(3)]
            tasks = [asyncio.create_task(hold(lock, e), name=str(i)) for i, e in enumerate(events)]
            await asyncio.sleep(0)
            look = lambda: _watching.watch.look(time.monotonic())
            look()
            print([edges(task) for task in tasks])
            events[0].set()
            await tasks[0]
            await asyncio.sleep(0)
            look()
            print([edges(task) for task in tasks])
            watch.stop()
            print([edges(task) for task in tasks])
            events[1].set()
            events[2].set()

        asyncio.run(main())
        """)
    )
    result = run("program.py")
    assert result.stderr == ""
    assert result.stdout == "[['1', '2'], [], []]\n[[], ['2'], []]\n[[], [], []]\n"


# ---- A process that forks ----


def test_a_fork(run, here):
    (here / "fork.py").write_text(
        HANG
        + textwrap.dedent("""
        import os, sys
        from aiofastlock import watch

        watch.start(on_deadlock="raise")
        pid = os.fork()
        if pid == 0:
            try:
                asyncio.run(main())
            except watch.DeadlockError:
                os._exit(watch._watching.watch.thread.is_alive())
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """)
    )
    assert run("-W", "ignore", "fork.py").returncode == 1


# ---- pytest ----

CONFIG = """
[pytest]
asyncio_mode = auto
"""


@pytest.fixture
def tests(run, here):
    """Return a function that runs tests on the plugin."""

    def tests(source, *options):
        (here / "pytest.ini").write_text(CONFIG)
        (here / "test_it.py").write_text("import asyncio\n" + textwrap.dedent(source))
        return run("-m", "pytest", "-q", "-p", "aiofastlock.watch", *options)

    return tests


def test_a_suite_in_which_all_is_well(tests):
    result = tests("""
        async def test():
            lock = asyncio.Lock()
            assert type(lock).__module__ == "aiofastlock"
            async with lock:
                pass
    """)
    assert result.returncode == 0, result.stdout
    assert "1 passed" in result.stdout


def test_a_test_that_deadlocks(tests):
    result = tests("""
        async def test():
            lock = asyncio.Lock()
            async with lock:
                async with lock:
                    pass
    """)
    assert result.returncode == 1
    assert "DeadlockError: Deadlock: Task-" in result.stdout
    assert "waits for Lock lock, which it holds itself" in result.stdout


def test_a_test_that_leaves_a_lock_held(tests):
    result = tests("""
        lock = asyncio.Lock()

        def test():
            async def leave():
                await lock.acquire()
            asyncio.run(leave())

        def test_again():
            pass

        def test_sound():
            other = asyncio.Lock()
            async def release():
                await other.acquire()
                other.release()
            asyncio.run(release())
    """)
    assert result.returncode == 1
    assert "ERROR test_it.py::test - Failed: Lock made at " in result.stdout
    assert "test_it.py:3" in result.stdout
    assert "which has ended" in result.stdout
    assert "3 passed, 1 error" in result.stdout


def test_locks_in_both_orders(tests):
    source = """
        async def test():
            one = asyncio.Lock()
            other = asyncio.Lock()
            async with one, other:
                pass
            async with other, one:
                pass
    """
    assert tests(source).returncode == 0
    result = tests(source, "--lock-order")
    assert result.returncode == 1
    assert "Two locks are acquired in both orders" in result.stdout


def test_locks_of_one_place_in_both_orders(tests):
    source = """
        async def test():
            one, other = [asyncio.Lock() for _ in range(2)]
            async with one, other:
                pass
            async with other, one:
                pass
    """
    assert tests(source, "--lock-order").returncode == 0
    assert tests(source, "--lock-order-each").returncode == 1


STUCK = """
    import pytest

    async def hold(lock):
        async with lock:
            await asyncio.Event().wait()

    @pytest.mark.timeout(1)
    async def test():
        lock = asyncio.Lock()
        await asyncio.gather(hold(lock), hold(lock))
"""


@pytest.mark.parametrize("method", ["signal", "thread"])
def test_what_is_stuck_when_a_test_times_out(tests, method):
    result = tests(STUCK, f"--timeout-method={method}")
    assert result.returncode == 1
    assert "Lock lock, made at" in result.stdout
    assert "(hold), at " in result.stdout
    assert "(hold) waits for" in result.stdout


def test_what_is_stuck_at_an_interrupt(tests):
    result = tests(
        """
        import signal

        async def hold(lock):
            async with lock:
                await asyncio.Event().wait()

        async def test():
            lock = asyncio.Lock()
            # A shell may have set it to be ignored.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            asyncio.get_running_loop().call_later(0.1, signal.raise_signal, signal.SIGINT)
            await asyncio.gather(hold(lock), hold(lock))
        """
    )
    assert result.returncode == 2
    assert "Lock lock, made at" in result.stdout
    assert "(hold) waits for" in result.stdout


def test_wrong_options_of_pytest(tests):
    result = tests("", "--stuck-after", "-1")
    assert result.returncode == 4
    assert "--stuck-after: stuck_after must be a number of seconds above 0" in result.stderr
