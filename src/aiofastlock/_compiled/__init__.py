"""The primitives in Cython and C: fast, and equal to the pure-Python implementation."""

from aiofastlock._compiled._lock import load
from aiofastlock._shared import MODULES, when_asked_for

load("lock")

__getattr__, __dir__ = when_asked_for(globals(), lambda name: getattr(load(MODULES[name]), name))
