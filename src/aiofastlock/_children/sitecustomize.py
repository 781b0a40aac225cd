# mypy: ignore-errors
"""Installs aiofastlock in the Python processes that a program starts.

`python -m aiofastlock` puts this directory in front of PYTHONPATH, so that Python's `site` imports
this module in each of them. Any Python can be among them, so the syntax is that of all versions.

asyncio is not imported: it takes longer than Python itself takes to start, most processes do not
use it, and a program may have a module of that name, or patch others before it imports asyncio.
"""

import os
import sys


class Finder:
    """Finds asyncio and aiofastlock as the other finders do, and installs once both are imported.

    aiofastlock is found here because a process may import it first. It then imports asyncio while
    it is not complete itself.
    """

    def find_spec(self, name, path=None, target=None):
        if name in ("asyncio", "aiofastlock"):
            for finder in sys.meta_path:
                if finder is not self and hasattr(finder, "find_spec"):
                    spec = finder.find_spec(name, path, target)
                    if spec is not None:
                        if hasattr(spec.loader, "exec_module"):
                            spec.loader = Loader(spec.loader)
                        return spec
        return None


class Loader:
    def __init__(self, loader):
        self.loader = loader

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self.loader
        self.loader.exec_module(module)
        if module.__name__ == "aiofastlock":
            module.install()
        elif "aiofastlock" not in sys.modules:
            install()


def install():
    try:
        import aiofastlock
    except Exception as error:
        # Another environment may be without aiofastlock.
        if getattr(error, "name", None) != "aiofastlock":
            import warnings

            message = "aiofastlock is not installed in this process: " + str(error)
            warnings.warn(message, RuntimeWarning, stacklevel=2)
    else:
        aiofastlock.install()


here = os.path.dirname(__file__)
sys.path[:] = [entry for entry in sys.path if entry != here]
if sys.version_info >= (3, 11):
    sys.meta_path.insert(0, Finder())
    if "asyncio" in sys.modules:  # a .pth file can import it
        install()

# The sitecustomize module that Python would have imported takes this one's place. If there is none,
# or if it fails, `site` handles that.
this = sys.modules.pop(__name__)  # the variable keeps it alive: Python 2 clears what is not
import sitecustomize  # noqa: E402, F401
