"""python -m aiofastlock --dump PID: the snapshot of another process."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

LONGEST = 10.0  # seconds to wait for an answer

# Runs in the other process, in the middle of whatever its main thread does.
SCRIPT = """\
def answer():
    import os, sys, traceback
    path = {path!r}
    try:
        if "aiofastlock" in sys.modules:
            import aiofastlock.watch
            text = "0" + str(aiofastlock.watch.snapshot())
        else:
            text = "1has not imported aiofastlock"
    except Exception:
        text = "1cannot be looked at:\\n" + traceback.format_exc()
    with open(path + ".part", "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
    os.replace(path + ".part", path)
answer()
del answer
"""


def dump(pid: int) -> str:
    """Return the text of a process's snapshot. SystemExit says why there is none."""
    if not hasattr(sys, "remote_exec"):
        sys.exit(
            f"Python {sys.version_info.major}.{sys.version_info.minor} cannot look into another "
            "process: from Python 3.14 on it can. In a program that calls "
            "aiofastlock.watch.register(signal.SIGUSR1) at its beginning, the signal prints what "
            f"it waits for: kill -USR1 {pid}"
        )
    with tempfile.TemporaryDirectory(prefix="aiofastlock-") as directory:
        # The process may be another user's, if this one is root.
        if sys.platform != "win32":
            with contextlib.suppress(OSError):
                owner = Path(f"/proc/{pid}").stat()
                os.chown(directory, owner.st_uid, owner.st_gid)
        script, answer = Path(directory, "script.py"), Path(directory, "answer")
        script.write_text(SCRIPT.format(path=str(answer)), "utf-8")
        script.chmod(0o644)
        try:
            os.kill(pid, 0)
            sys.remote_exec(pid, str(script))
        except (ProcessLookupError, OverflowError):
            sys.exit(f"There is no process {pid}.")
        except PermissionError:
            sys.exit(f"Process {pid} may not be looked at: it takes its user, or root.")
        except (OSError, RuntimeError, ValueError) as error:
            version = f"Python {sys.version_info.major}.{sys.version_info.minor}"
            sys.exit(f"Process {pid} cannot be looked at: is it {version}, as this is? {error}")
        text = wait_for(answer, pid)
    if text[:1] != "0":
        sys.exit(f"Process {pid} {text[1:]}")
    return text[1:]


def wait_for(answer: Path, pid: int) -> str:
    """Wait until the process has written its answer.

    It does so when its main thread next runs Python. One that waits for events does not: being
    stopped and continued ends its wait. That is not done at once, since a shell notices.
    """
    began = time.monotonic()
    interrupted = False
    while not answer.exists():
        waited = time.monotonic() - began
        try:
            os.kill(pid, 0)
            if sys.platform != "win32" and waited > 0.3 and not interrupted:
                interrupted = True
                os.kill(pid, signal.SIGSTOP)
                os.kill(pid, signal.SIGCONT)
        except OSError:
            sys.exit(f"Process {pid} has ended.")
        if waited > LONGEST:
            sys.exit(
                f"Process {pid} has not answered in {LONGEST:.0f} s: its main thread does not run "
                "Python."
            )
        time.sleep(0.02)
    return answer.read_text("utf-8")
