"""The primitives in plain Python: the specification of the compiled ones, and their fallback."""

from importlib import import_module

from aiofastlock._shared import MODULES, when_asked_for


def load(name: str) -> object:
    """Import a module of this package, such as "barrier"."""
    return import_module(f"{__name__}.{name}")


__getattr__, __dir__ = when_asked_for(globals(), lambda name: getattr(load(MODULES[name]), name))
