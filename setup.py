"""Compiles src/aiofastlock/_compiled, and writes PyPI's page. All else is in pyproject.toml.

AIOFASTLOCK_EXTENSIONS  unset: compile, or warn and build the pure-Python implementation alone if
                        that fails; 0: build the pure-Python one alone; 1: compile or fail
AIOFASTLOCK_SANITIZE    the value of the compiler's -fsanitize=, such as address,undefined
AIOFASTLOCK_DEBUG       1: abort where the links, counts and states of a queue do not agree
"""

import os
import re
import shutil
import sys
import sysconfig
import tomllib
from pathlib import Path

from setuptools import Extension, setup

SOURCES = Path("src/aiofastlock/_compiled")

WARNING = """
******************************************************************************
aiofastlock: the compiled implementation could not be built.

{}

The pure-Python implementation is installed alone. It behaves the same, and is
as fast as asyncio. With AIOFASTLOCK_EXTENSIONS=1 this is an error.
******************************************************************************
"""
NO_HEADERS = """There is no Python.h in {}.
Install Python's headers (the package python3-dev on Debian and Ubuntu,
python3-devel on Fedora), and install aiofastlock again."""
NO_COMPILER = """Install a C compiler, and install aiofastlock again. If there is one, see its
messages above."""


def extensions():
    from Cython.Build import cythonize

    # Only what is declared inline is inlined, so that a frequent path saves no registers for a rare
    # one.
    debug = os.environ.get("AIOFASTLOCK_DEBUG") == "1"
    gcc = ["-O0" if debug else "-O3", "-fvisibility=hidden", "-fno-inline-functions-called-once"]
    gcc += ["-fno-inline-functions", "-fno-inline-small-functions"]
    flags = ["/O2", "/Ob1"] if os.name == "nt" else gcc
    # Without memory, Cython 3.3.1 otherwise drops references to keywords that it does not own.
    macros = [("CYTHON_VECTORCALL_TPNEW", "0")]
    macros += [("AIOFASTLOCK_DEBUG", "1")] if debug else []
    sanitize = os.environ.get("AIOFASTLOCK_SANITIZE")
    sanitizers = [f"-fsanitize={sanitize}", "-fno-omit-frame-pointer", "-g"] if sanitize else []
    modules = [
        Extension(
            f"aiofastlock._compiled.{path.stem}",
            [str(path)],
            depends=[str(header) for header in SOURCES.glob("*.h")],  # copied to build_dir
            define_macros=macros,
            extra_compile_args=flags + sanitizers,
            extra_link_args=sanitizers,
        )
        for path in sorted(SOURCES.glob("*.pyx"))
    ]
    directives = {
        "always_allow_keywords": False,  # METH_NOARGS and METH_O, the cheapest to call
        "freethreading_compatible": True,  # see _guard.h
        "binding": False,  # plain method descriptors: cheaper to call than Cython's functions
        "embedsignature": True,
        "embedsignature.format": "clinic",
        "auto_pickle": False,
        "autotestdict": False,
    }
    modules = cythonize(modules, build_dir="build/cython", compiler_directives=directives)
    for module in modules:
        # Others are built again without extensions, below; an editable build cannot be.
        module.optional = editable and not switch
    return modules


def long_description():
    """Return README.md, its links leading to the release in the repository if that is known."""
    readme = Path("README.md").read_text("utf-8")
    project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]
    if "Repository" not in project["urls"]:
        return readme
    init = Path("src/aiofastlock/__init__.py").read_text("utf-8")
    version = re.search('^__version__ = "(.+)"$', init, re.MULTILINE)[1]

    def absolute(link):
        kind = "raw" if link[2].endswith((".svg", ".png")) else "blob"
        return f"{link[1]}{project['urls']['Repository']}/{kind}/v{version}/{link[2]}"

    # Links of Markdown and of HTML that are neither absolute nor within the page.
    return re.sub(r'(\]\(|(?:href|src|srcset)=")(?![a-z]+:|#)([^\s)"]+)', absolute, readme)


def built_in_place():
    return list(SOURCES.glob("*" + sysconfig.get_config_var("EXT_SUFFIX")))


switch = os.environ.get("AIOFASTLOCK_EXTENSIONS", "")
if switch not in ("", "0", "1"):
    sys.exit(f"AIOFASTLOCK_EXTENSIONS must be unset, 0 or 1, not {switch!r}")
editable = "editable_wheel" in sys.argv

# What an earlier build left would be installed, or imported, in place of what this one makes.
for path in Path("build").glob("lib*"):
    shutil.rmtree(path)
for path in built_in_place() if editable else []:
    path.unlink()

wanted = switch == "1" or (not switch and sys.implementation.name == "cpython")
modules = extensions() if wanted else []
description = {
    "long_description": long_description(),
    "long_description_content_type": "text/markdown",
}
try:
    setup(ext_modules=modules, **description)
    failed = editable and len(built_in_place()) < len(modules)
except SystemExit as error:  # setuptools reports so that the compiler failed, or does not exist
    if switch or not modules:
        raise
    print(error, file=sys.stderr)
    setup(**description)
    failed = True
if failed:
    from distutils.sysconfig import get_python_inc  # setuptools', on any Python

    include = get_python_inc()
    headers = Path(include, "Python.h").exists()
    print(WARNING.format(NO_COMPILER if headers else NO_HEADERS.format(include)), file=sys.stderr)
