"""Random programs over all primitives, alone and together. schedules.py makes them.

Each run makes new ones: pytest's header shows the seed, and `--seed` repeats it. `pytest
tests/test_schedules.py --schedules 10000` runs more of each scene than the suite does.
"""

import sys

import pytest
import schedules
from conftest import OURS
from schedules import ORACLE, SCENES, Machine, asyncios, trace

QUEUES = tuple(scene for scene in SCENES if scene not in ("Barrier", "RWLock", "keys"))


def check_traces(request, implementations, scene, share=1, is_deadly=True):
    seed = request.config.getoption("seed")
    with Machine() as machine:
        for index in range(int(request.config.getoption("schedules") * share) or 1):
            program = schedules.program_of(seed, index, scene, is_deadly)
            found = schedules.find_difference(machine, implementations, *program)
            if found:
                found = schedules.shrunk(machine, implementations, found)
                pytest.fail(schedules.report(seed, index, found), pytrace=False)


@pytest.mark.timeout(0)  # it takes as long as --schedules asks
@pytest.mark.parametrize("scene", SCENES)
def test_traces_equal_the_oracles(request, scene):
    check_traces(request, OURS, scene)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="asyncio has more faults there")
@pytest.mark.timeout(0)
@pytest.mark.parametrize("scene", [*QUEUES, "Condition over the fixed lock"])
def test_the_oracle_is_asyncio_but_for_what_it_fixes(request, scene):
    """Only CancelledError is thrown. A Condition takes any exception, if its lock is fixed."""
    if scene in QUEUES:
        check_traces(request, asyncios("asyncio"), scene, share=1 / 4, is_deadly=False)
    else:
        check_traces(request, asyncios("over the fixed lock"), "Condition", share=1 / 4)


HOLD = ("spawn", "task", 1, [("enter", 0, None, [("tick", 1)])])
TICK, RELEASE, CANCEL = ("tick", 1), ("call", 0, "release"), ("cancel", 0, (None,))
DIFFERED = [
    # The value changed twice for a cancelled waiter.
    ([("Semaphore", 0, ["_value"])], [HOLD, TICK, CANCEL, RELEASE, TICK]),
    # A waiter that the subclass had woken was cancelled, and its permit was lost.
    (
        [("Semaphore", 0, ["a _wake_up_next for the last"])],
        [HOLD, TICK, RELEASE, CANCEL, TICK],
    ),
]


@pytest.mark.parametrize(("setup", "program"), DIFFERED)
@pytest.mark.parametrize("name", OURS)
def test_programs_that_differed(name, setup, program):
    assert trace(OURS[name], setup, program) == trace(ORACLE, setup, program)
