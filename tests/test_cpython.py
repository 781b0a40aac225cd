"""CPython's own tests of asyncio's locks and queues, unmodified.

They come from this interpreter's `test` package. They run in another process, with each
implementation installed in place of asyncio's classes.
"""

import importlib.util
import os
import subprocess
import sys

import pytest
from conftest import SWITCHES

LOCKS = ["LockTests", "EventTests", "ConditionTests", "SemaphoreTests", "BarrierTests"]
CLASSES = [("test_locks", tests) for tests in LOCKS] + [("test_queues", "")]  # "": all of them

RUN = """
import sys, unittest
import aiofastlock

aiofastlock.install()
assert aiofastlock.IMPLEMENTATION == sys.argv[1]
name = ".".join(["test.test_asyncio", *filter(None, sys.argv[2:])])
suite = unittest.defaultTestLoader.loadTestsFromName(name)
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
@pytest.mark.parametrize(("module", "tests"), CLASSES)
@pytest.mark.parametrize("implementation", SWITCHES)
def test_cpythons_own_tests(implementation, module, tests):
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN, implementation, module, tests],
        env={**os.environ, "AIOFASTLOCK_EXTENSIONS": SWITCHES[implementation]},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert run.returncode == 0, run.stderr
