"""What setup.py makes of AIOFASTLOCK_EXTENSIONS, in copies of the source tree."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ["setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE"]
SOURCES += ["src", "tests", "benchmarks"]

pytestmark = [
    pytest.mark.skipif(
        not (ROOT / "setup.py").exists(), reason="the tests are not run from a source tree"
    ),
    pytest.mark.timeout(300),
]

needs_failing_compiler = pytest.mark.skipif(
    sys.implementation.name != "cpython" or sys.platform == "win32",
    reason="PyPy compiles nothing, and Windows does not look at CC",
)


def build(
    kind: str, tree: Path, switch: str | None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Call the build backend for an sdist or a wheel, which is left in tree/dist."""
    env = {k: v for k, v in os.environ.items() if k != "AIOFASTLOCK_EXTENSIONS"} | variables
    if switch is not None:
        env["AIOFASTLOCK_EXTENSIONS"] = switch
    return subprocess.run(
        [sys.executable, "-c", f"import setuptools.build_meta as b; b.build_{kind}('dist')"],
        cwd=tree,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def built(tree: Path) -> Path:
    [path] = (tree / "dist").iterdir()
    return path


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("source")
    unwanted = shutil.ignore_patterns("*.so", "*.pyd", "*.egg-info", "__pycache__")
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, tree / name, ignore=unwanted)
        elif path.exists():
            shutil.copy(path, tree)
    done = build("sdist", tree, "1" if sys.implementation.name == "cpython" else "0")
    assert done.returncode == 0, done.stderr
    return built(tree)


@pytest.fixture
def tree(sdist: Path, tmp_path: Path) -> Path:
    """The sdist, unpacked."""
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    [path] = tmp_path.iterdir()
    return path


def assert_pure(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        [metadata] = [name for name in names if name.endswith(".dist-info/WHEEL")]
        assert "Root-Is-Purelib: true" in archive.read(metadata).decode()
    package = {name for name in names if name.startswith("aiofastlock/")}
    assert {"aiofastlock/__init__.py", "aiofastlock/_pure/lock.py"} <= package
    assert {"aiofastlock/__init__.pyi", "aiofastlock/py.typed"} <= package
    assert {Path(name).suffix for name in package} == {".py", ".pyi", ".typed"}
    assert all(name in package or ".dist-info/" in name for name in names)


def test_sdist(tree: Path) -> None:
    files = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}
    sources = {
        path.relative_to(ROOT).as_posix()
        for folder in ("src/aiofastlock", "tests", "benchmarks")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".pyi", ".pyx", ".pxd", ".h"}
    }
    assert "src/aiofastlock/_compiled/_lock.pyx" in sources
    assert sources <= files
    assert {"LICENSE", "README.md", "pyproject.toml", "setup.py"} <= files
    assert not [name for name in files if name.endswith((".c", ".o", ".so", ".pyd", ".pyc"))]


def test_pure_wheel(tree: Path) -> None:
    done = build("wheel", tree, "0")
    assert done.returncode == 0, done.stderr
    assert_pure(built(tree))
    assert "compiled half" not in done.stderr


@needs_failing_compiler
def test_no_compiler_and_unset(tree: Path) -> None:
    done = build("wheel", tree, None, CC="false")
    assert done.returncode == 0, done.stderr
    assert_pure(built(tree))
    assert "aiofastlock: the compiled half could not be built (" in done.stderr
    assert "Going on with the pure half alone" in done.stderr


@needs_failing_compiler
def test_no_compiler_and_compiled_asked_for(tree: Path) -> None:
    done = build("wheel", tree, "1", CC="false")
    assert done.returncode != 0
    assert not list((tree / "dist").glob("*.whl"))
    why = done.stderr.splitlines()[-1]  # in words that vary with setuptools
    assert why.startswith("error: ")
    assert "false" in why
    assert "exit" in why
    assert "Going on" not in done.stderr


@pytest.mark.parametrize("kind", ["sdist", "wheel"])
def test_unknown_value(tree: Path, kind: str) -> None:
    done = build(kind, tree, "yes")
    assert done.returncode != 0
    assert not list((tree / "dist").iterdir())
    assert "AIOFASTLOCK_EXTENSIONS must be unset, 0 or 1, not 'yes'" in done.stderr
