"""What setup.py builds, by AIOFASTLOCK_EXTENSIONS, in copies of the source tree."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email import message_from_string
from email.message import Message
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
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


def build(
    kind: str, tree: Path, switch: str | None, before: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Call the build backend for an sdist or a wheel, which is left in tree/dist."""
    env = {k: v for k, v in os.environ.items() if k != "AIOFASTLOCK_EXTENSIONS"} | variables
    if switch is not None:
        env["AIOFASTLOCK_EXTENSIONS"] = switch
    code = f"{before}\nimport setuptools.build_meta as b; b.build_{kind}('dist')"
    return subprocess.run(
        [sys.executable, "-c", code],
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
    assert "aiofastlock: " not in done.stderr


LOOK_FOR_HEADERS_IN_TREE = """
import sysconfig
sysconfig.get_config_vars().update(INCLUDEPY='include', CONFINCLUDEPY='include')
"""


@needs_failing_compiler
@pytest.mark.parametrize("kind", ["wheel", "editable"])
@pytest.mark.parametrize("lacking", ["compiler", "headers"])
def test_unset_and_no(lacking: str, tree: Path, kind: str) -> None:
    include = tree / "include"
    include.mkdir()
    if lacking == "compiler":
        (include / "Python.h").touch()
        variables = {"CC": "false"}
    else:
        variables = {"CFLAGS": "", "CPATH": ""}  # which may lead to headers
    done = build(kind, tree, None, LOOK_FOR_HEADERS_IN_TREE, **variables)
    assert done.returncode == 0, done.stderr
    if kind == "wheel":
        assert_pure(built(tree))
    assert "aiofastlock: the compiled implementation could not be built.\n" in done.stderr
    causes = {
        "compiler": "Install a C compiler, and",
        "headers": "no Python.h in include.\nInstall Python's headers (the package python3-dev",
    }
    for what, cause in causes.items():
        assert (cause in done.stderr) == (what == lacking)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not look at CC")
def test_pypy_and_unset(tree: Path) -> None:
    done = build("wheel", tree, None, "import sys; sys.implementation.name = 'pypy'", CC="false")
    assert done.returncode == 0, done.stderr
    assert_pure(built(tree))
    assert "aiofastlock: " not in done.stderr


def test_earlier_build(tree: Path) -> None:
    stale = tree / "build/lib/aiofastlock/_compiled"
    stale.mkdir(parents=True)
    (stale / "removed.py").touch()
    (stale / f"_lock{SUFFIX}").touch()
    done = build("wheel", tree, "0")
    assert done.returncode == 0, done.stderr
    assert_pure(built(tree))
    with zipfile.ZipFile(built(tree)) as archive:
        assert "aiofastlock/_compiled/removed.py" not in archive.namelist()


def test_earlier_editable_build(tree: Path) -> None:
    compiled = tree / "src/aiofastlock/_compiled"
    (compiled / f"_lock{SUFFIX}").touch()
    (compiled / "_lock.another-python.so").touch()
    done = build("wheel", tree, "0")
    assert done.returncode == 0, done.stderr
    assert (compiled / f"_lock{SUFFIX}").exists()  # the editable build is still in use
    done = build("editable", tree, "0")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in compiled.glob("*.so")] == ["_lock.another-python.so"]


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


ADDRESS = "https://example.org/someone/aiofastlock"


def described(tree: Path, line: str) -> Message:
    """The metadata of an sdist, with a line of pyproject.toml for the repository's address."""
    pyproject = tree / "pyproject.toml"
    text, count = re.subn(
        "^(# )?Repository = .*$", line, pyproject.read_text("utf-8"), flags=re.MULTILINE
    )
    assert count == 1
    pyproject.write_text(text, "utf-8")
    done = build("sdist", tree, "0")
    assert done.returncode == 0, done.stderr
    with tarfile.open(built(tree)) as archive:
        [name] = [name for name in archive.getnames() if re.fullmatch("[^/]+/PKG-INFO", name)]
        return message_from_string(archive.extractfile(name).read().decode())


def test_description_without_an_address(tree: Path) -> None:
    metadata = described(tree, "")
    assert "Project-URL" not in metadata
    assert metadata.get_payload().strip() == (tree / "README.md").read_text("utf-8").strip()


def test_description_with_an_address(tree: Path) -> None:
    markdown = pytest.importorskip("readme_renderer.markdown", reason="needs readme-renderer")
    metadata = described(tree, f'Repository = "{ADDRESS}"')
    assert metadata.get_all("Project-URL") == [f"Repository, {ADDRESS}"]
    page = markdown.render(metadata.get_payload())
    links = re.findall('<(?:a|img|source)[^>]* (?:href|src|srcset)="([^"]*)"', page)
    assert not [link for link in links if not link.startswith(("https://", "#"))]
    in_repository = [link for link in links if link.startswith(ADDRESS)]
    assert len(in_repository) > 5
    for link in in_repository:
        kind = "raw" if link.endswith((".svg", ".png")) else "blob"
        release = f"{ADDRESS}/{kind}/v{metadata['Version']}/"
        assert link.startswith(release)
        assert (ROOT / link.removeprefix(release).partition("#")[0]).exists(), link
