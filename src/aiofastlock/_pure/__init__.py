"""The primitives in plain Python: the specification of the compiled half, and its fallback."""
