"""The documentation site, which `.ci/docs` builds from the repository's pages as they are.

Its source directory is the repository, so that links work on the site as they do on GitHub.
"""

import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

# The pure-Python implementation needs no compiler, and its signatures have annotations.
os.environ["AIOFASTLOCK_EXTENSIONS"] = "0"
sys.path.insert(0, str(ROOT / "src"))

import aiofastlock  # noqa: E402

project = "aiofastlock"
author = "The aiofastlock developers"
release = aiofastlock.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinxcontrib.mermaid"]
root_doc = "README"
include_patterns = ["*.md", "docs/*.md", "benchmarks/README.md", "tests/**README.md"]
exclude_patterns = [".*", "build"]
default_role = "code"  # in docstrings
autodoc_member_order = "bysource"
myst_heading_anchors = 3
myst_fence_as_directive = ["mermaid"]
mermaid_use_local = "mermaid/mermaid.esm.min.mjs"
mermaid_height = "auto"

html_theme = "furo"
html_title = f"{project} {release}"
html_baseurl = os.environ.get("READTHEDOCS_CANONICAL_URL", "")
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False

CONTENTS = """
```{toctree}
:hidden:

Home <self>
docs/start
```

```{toctree}
:hidden:
:caption: Guide

docs/using
docs/watch
docs/keys
docs/implementation
docs/readers-and-writers
docs/processes
docs/not-faster
docs/production
```

```{toctree}
:hidden:
:caption: Reference

docs/reference
docs/behaviour
docs/versions
CHANGELOG
SECURITY
```

```{toctree}
:hidden:
:caption: Benchmarks

benchmarks/README
docs/benchmarking
```

```{toctree}
:hidden:
:caption: Development

docs/how-it-works
CONTRIBUTING
tests/README
tests/downstream/README
docs/releasing
```
"""


def add_contents(app, docname, source):
    if docname == root_doc:  # on GitHub it has no need of them
        source[0] += CONTENTS


def add_index(app, exception):
    if exception is None and app.builder.format == "html":
        shutil.copy(app.outdir / f"{root_doc}.html", app.outdir / "index.html")


def setup(app):
    app.connect("source-read", add_contents)
    app.connect("build-finished", add_index)
