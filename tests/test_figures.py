"""The pages still have the sentences whose figures figures.py checks."""

import re
import tomllib
from pathlib import Path

import pytest

FIGURES = tomllib.loads(Path(__file__).with_name("figures.toml").read_text("utf-8"))["figure"]
ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure["text"][:30])
def test_a_page_has_the_text_of_a_figure(figure):
    page = ROOT / figure["page"]
    if not page.exists():
        pytest.skip("the pages are not here")
    assert figure["text"] in " ".join(page.read_text("utf-8").split())
    assert re.compile(figure["prints"]).groups
