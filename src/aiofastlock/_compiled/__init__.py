"""The primitives in Cython and C: fast, and equal to the pure-Python implementation."""

from aiofastlock._compiled._lock import load as load
from aiofastlock._shared import MODULES, when_asked_for

load("lock")

__getattr__, __dir__ = when_asked_for(globals(), lambda name: getattr(load(MODULES[name]), name))


def never_called() -> None:  # pragma: no cover - never called
    """Name what load() imports: tools that bundle a program look for import statements."""
    import aiofastlock._compiled._barrier
    import aiofastlock._compiled._condition
    import aiofastlock._compiled._event
    import aiofastlock._compiled._keyed
    import aiofastlock._compiled._queue
    import aiofastlock._compiled._recorder
    import aiofastlock._compiled._rwlock
    import aiofastlock._compiled._semaphore
