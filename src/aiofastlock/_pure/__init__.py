"""The pure half: the specification of the compiled one, and the fallback where that is not there."""

from aiofastlock._pure.lock import Lock

__all__ = ["Lock"]
