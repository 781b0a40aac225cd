#!/usr/bin/env python3
""".ci/names.py DIST   checks that DIST holds the files of one release, and no others"""

import re
import sys
from itertools import product
from pathlib import Path

PYTHONS = ["cp311-cp311", "cp312-cp312", "cp313-cp313", "cp314-cp314", "cp314-cp314t"]
PYTHONS += ["cp315-cp315", "cp315-cp315t"]
PLATFORMS = ["manylinux_x86_64", "manylinux_aarch64", "musllinux_x86_64", "musllinux_aarch64"]
PLATFORMS += ["macosx_x86_64", "macosx_arm64", "win_amd64", "win_arm64"]


def without_versions(name: str) -> str:
    """Return a wheel's name without versions of the platform, as in manylinux_2_17_x86_64."""
    name = re.sub(r"\.(many|musl)linux\w+(?=\.whl$)", "", name)  # a second name of the platform
    return re.sub(r"(manylinux|musllinux|macosx)(_\d+_\d+|2014)", r"\1", name)


if len(sys.argv) != 2:
    sys.exit(__doc__)
paths = list(Path(sys.argv[1]).iterdir())
found = [without_versions(path.name) for path in paths]
[project] = [name.removesuffix(".tar.gz") for name in found if name.endswith(".tar.gz")]
tags = ["py3-none-any", *("-".join(pair) for pair in product(PYTHONS, PLATFORMS))]
expected = [f"{project}.tar.gz", *(f"{project}-{tag}.whl" for tag in tags)]
for name in sorted({*expected, *found}):
    if expected.count(name) != found.count(name):
        print(f"{name}: {found.count(name)} instead of {expected.count(name)}")
size = sum(path.stat().st_size for path in paths)
print(f"{len(paths)} files of {len(expected)}, {size:,} bytes")
sys.exit(sorted(found) != sorted(expected))
