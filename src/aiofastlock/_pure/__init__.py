"""The primitives in plain Python: the specification of the compiled ones, and their fallback."""

from importlib import import_module

from aiofastlock._shared import MODULES, when_asked_for


def load(name: str) -> object:
    """Import a module of this package, such as "barrier"."""
    return import_module(f"{__name__}.{name}")


__getattr__, __dir__ = when_asked_for(globals(), lambda name: getattr(load(MODULES[name]), name))


def never_called() -> None:  # pragma: no cover - never called
    """Name what load() imports: tools that bundle a program look for import statements."""
    import aiofastlock._pure.barrier
    import aiofastlock._pure.condition
    import aiofastlock._pure.event
    import aiofastlock._pure.keyed
    import aiofastlock._pure.lock
    import aiofastlock._pure.queue
    import aiofastlock._pure.recorder
    import aiofastlock._pure.rwlock
    import aiofastlock._pure.semaphore
