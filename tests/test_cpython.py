"""CPython's own tests of asyncio's locks, unmodified, from this interpreter's `test` package.

They run in another process, with each implementation installed in place of asyncio's classes.
"""

import importlib.util
import os
import subprocess
import sys

import pytest
from conftest import SWITCHES

CLASSES = ["LockTests", "EventTests", "ConditionTests", "SemaphoreTests", "BarrierTests"]

RUN = """
import sys, unittest
import aiofastlock

aiofastlock.install()
assert aiofastlock.IMPLEMENTATION == sys.argv[1]
from test.test_asyncio import test_locks
suite = unittest.defaultTestLoader.loadTestsFromNames(sys.argv[2:], test_locks)
result = unittest.TextTestRunner().run(suite)
assert result.wasSuccessful()
assert not result.skipped
assert result.testsRun >= 6, result
"""


@pytest.mark.skipif(
    importlib.util.find_spec("test") is None
    or importlib.util.find_spec("test.test_asyncio") is None,
    reason="this interpreter comes without CPython's tests",
)
@pytest.mark.parametrize("tests", CLASSES)
@pytest.mark.parametrize("implementation", SWITCHES)
def test_cpythons_own_tests(implementation, tests):
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN, implementation, tests],
        env={**os.environ, "AIOFASTLOCK_EXTENSIONS": SWITCHES[implementation]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
