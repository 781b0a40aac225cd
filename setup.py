"""Compiles the .pyx rooms of src/aiofastlock; everything else is in pyproject.toml.

AIOFASTLOCK_EXTENSIONS  unset: compile, or warn and build the pure half alone where the compiler
                        fails; 0: build the pure half alone; 1: compile or fail
AIOFASTLOCK_SANITIZE    what to give to the compiler's -fsanitize=, such as address,undefined
AIOFASTLOCK_DEBUG       1: abort where the links, counts and states of a queue do not agree
"""

import os
import sys

from setuptools import Extension, setup

SOURCES = "src/aiofastlock/_compiled"

switch = os.environ.get("AIOFASTLOCK_EXTENSIONS", "")
if switch not in ("", "0", "1"):
    sys.exit(f"AIOFASTLOCK_EXTENSIONS must be unset, 0 or 1, not {switch!r}")

NO_COMPILER = """
******************************************************************************
aiofastlock: the compiled half could not be built ({}).
Going on with the pure half alone. It behaves the same, at asyncio's speed.
For the compiled half, install a C compiler and Python's headers, and install
again. With AIOFASTLOCK_EXTENSIONS=1 in the environment this is an error.
******************************************************************************
"""


def extensions():
    from Cython.Build import cythonize

    # Nothing is inlined but what is declared inline: what is frequent saves no registers for what
    # is rare.
    gcc = ["-O3", "-fvisibility=hidden", "-fno-inline-functions-called-once"]
    gcc += ["-fno-inline-functions", "-fno-inline-small-functions"]
    flags = ["/O2", "/Ob1"] if os.name == "nt" else gcc
    headers = ("class.h", "guard.h", "lock.h", "lock.pxd", "loop.h")
    # Without memory, Cython 3.3.1 hands keywords on in a way that drops references it has not got.
    macros = [("CYTHON_VECTORCALL_TPNEW", "0")]
    macros += [("AIOFASTLOCK_DEBUG", "1")] if os.environ.get("AIOFASTLOCK_DEBUG") == "1" else []
    sanitize = os.environ.get("AIOFASTLOCK_SANITIZE")
    sanitizers = [f"-fsanitize={sanitize}", "-fno-omit-frame-pointer", "-g"] if sanitize else []
    rooms = [
        Extension(
            f"aiofastlock._compiled.{name}",
            [f"{SOURCES}/{name}.pyx"],
            include_dirs=[SOURCES],
            depends=[f"{SOURCES}/_{file}" for file in headers],
            define_macros=macros,
            extra_compile_args=flags + sanitizers,
            extra_link_args=sanitizers,
        )
        for name in ("_lock", "_event", "_semaphore", "_condition", "_barrier")
    ]
    directives = {
        "always_allow_keywords": False,  # METH_NOARGS and METH_O, which the interpreter calls best
        "freethreading_compatible": True,  # see _guard.h
        "binding": False,  # plain method descriptors: cheaper to call than Cython's functions
        "embedsignature": True,
        "embedsignature.format": "clinic",
        "auto_pickle": False,
        "autotestdict": False,
    }
    rooms = cythonize(rooms, build_dir="build/cython", compiler_directives=directives)
    for room in rooms:
        # `pip install -e` can't be begun anew below; it goes on without what is optional.
        room.optional = not switch and "editable_wheel" in sys.argv
    return rooms


wanted = switch == "1" or (not switch and sys.implementation.name == "cpython")
rooms = extensions() if wanted else []
try:
    setup(ext_modules=rooms)
except SystemExit as error:  # how setuptools says that the compiler failed, or is not there
    if switch or not rooms:
        raise
    print(NO_COMPILER.format(error), file=sys.stderr)
    setup()
