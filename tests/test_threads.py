"""Loops in several threads: threads.py, for a short while, in processes of their own.

A crash or a hang is a failed test there, with where each thread was.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import FREE_THREADED, HALVES, PRIMITIVES

pytestmark = pytest.mark.timeout(150)  # later than threads.py says itself that a thread hangs

THREADS = Path(__file__).with_name("threads.py")


def run(command, implementation, *options):
    switch = HALVES.get(implementation, os.environ.get("AIOFASTLOCK_EXTENSIONS", ""))
    done = subprocess.run(
        [sys.executable, THREADS, command, f"--half={implementation}", *options],
        env={**os.environ, "AIOFASTLOCK_EXTENSIONS": switch},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(not FREE_THREADED, reason="needs a Python that can do without a GIL")
def test_the_gil_stays_off(our_name):
    subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-c",
            "import aiofastlock, sys; sys.exit(sys._is_gil_enabled())",
        ],
        env={**os.environ, "AIOFASTLOCK_EXTENSIONS": HALVES[our_name]},
        check=True,
    )


def test_each_thread_with_objects_of_its_own(our_name):
    run("own", our_name, "--seconds=0.2")


def test_objects_that_were_used_in_another_thread(our_name):
    run("handed", our_name, "--seconds=0.2")


@pytest.mark.parametrize("primitive", PRIMITIVES)
def test_one_object_misused_by_all(implementation, primitive):
    run("shared", implementation, "--seconds=0.5", primitive)


def test_install_in_all_threads(our_name):
    run("install", our_name, "--seconds=0.1")
