"""Compiles the .pyx rooms of src/aiofastlock; everything else is in pyproject.toml.

AIOFASTLOCK_EXTENSIONS  unset: compile, and warn and build the pure half alone if that fails;
                        0: build the pure half alone; 1: compile or fail
AIOFASTLOCK_SANITIZE    what to give to the compiler's -fsanitize=, such as address,undefined
"""

import os
import sys

from setuptools import Extension, setup

switch = os.environ.get("AIOFASTLOCK_EXTENSIONS", "")
sanitize = os.environ.get("AIOFASTLOCK_SANITIZE", "")
if switch not in ("", "0", "1"):
    sys.exit(f"AIOFASTLOCK_EXTENSIONS must be unset, 0 or 1, not {switch!r}")


def extensions():
    from Cython.Build import cythonize

    flags = ["/O2"] if os.name == "nt" else ["-O3", "-fvisibility=hidden"]
    sanitizers = [f"-fsanitize={sanitize}", "-fno-omit-frame-pointer", "-g"] if sanitize else []
    options = {
        "include_dirs": ["src/aiofastlock"],
        "depends": ["src/aiofastlock/_lock.h", "src/aiofastlock/_lock.pxd"],
        "extra_compile_args": flags + sanitizers,
        "extra_link_args": sanitizers[:1],
    }
    directives = {
        "binding": False,  # plain method descriptors: cheaper to call than Cython's functions
        "embedsignature": True,
        "embedsignature.format": "clinic",
        "auto_pickle": False,
        "autotestdict": False,
    }
    rooms = [Extension("aiofastlock._lock", ["src/aiofastlock/_lock.pyx"], **options)]
    return cythonize(rooms, build_dir="build/cython", compiler_directives=directives)


if switch == "0" or (not switch and sys.implementation.name != "cpython"):
    setup()
else:
    rooms = extensions()
    try:
        setup(ext_modules=rooms)
    except SystemExit as error:  # how setuptools says that the compiler failed, or is not there
        if switch == "1":
            raise
        print(
            f"""
{"*" * 78}
aiofastlock: the compiled half could not be built ({error}).
Going on with the pure half alone. It behaves the same, and is about as fast as asyncio.
For the compiled half, install a C compiler and Python's headers, and install again.
With AIOFASTLOCK_EXTENSIONS=1 in the environment this is an error.
{"*" * 78}
""",
            file=sys.stderr,
        )
        setup()
