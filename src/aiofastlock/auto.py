"""Calls install() when imported: `import aiofastlock.auto`, or `pytest -p aiofastlock.auto`."""

from aiofastlock import install

install()
