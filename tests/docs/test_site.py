"""The site is built strictly, asks for nothing from elsewhere, and its pictures are made here."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.test_pages import environment
from tests.helpers.browser import chromium
from tests.helpers.documentation import run
from tests.helpers.places import ROOT

#: A folder for the pictures: `make pictures` names docs/pictures.
PICTURES = os.environ.get("PICTURES")
QUESTION = "Who approves a trip abroad, and what may a hotel cost in Oslo?"
MADE = f"""```console
$ raptor inspect handbook.index --html tree.html
$ rlm ask handbook.index "{QUESTION}" --runs runs --quiet > answer.txt
$ rlm review runs/* --index handbook.index -o review.html
```"""
BESIDE = """<!doctype html><meta charset="utf-8"><title>An answer and its page</title><style>
body {{ margin: 0; display: grid; grid-template-columns: 44% 56%; height: 100vh; font-family: system-ui, sans-serif }}
pre {{ margin: 0; padding: 24px; white-space: pre-wrap; background: #14181d; color: #e6e9ec; font-size: 15px;
  line-height: 1.5 }}
b {{ color: #8fd3ff; font-weight: 600 }}
iframe {{ border: 0; width: 100%; height: 100% }}
</style><pre><b>$ rlm ask handbook.index "{question}"</b>

{answer}</pre><iframe src="review.html"></iframe>"""


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_asks_for_nothing_from_elsewhere(tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-P",
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(tmp_path),
    ]
    told = environment(tmp_path) | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=ROOT, env=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for page in tmp_path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<(?:script|img|iframe)[^>]+src=\"(?:https?:)?//", text), page
        assert not re.search(r"<link[^>]+rel=\"stylesheet\"[^>]+href=\"(?:https?:)?//", text), page
    reference = (tmp_path / "reference" / "python.html").read_text(encoding="utf-8")
    assert "What may be spent" in reference or "hard caps" in reference
    commands = (tmp_path / "reference" / "rlm.html").read_text(encoding="utf-8")
    assert "--max-usd" in commands and "rlm trace replay" in commands


@pytest.mark.slow
def test_the_pictures_of_the_pages_are_made_of_a_real_run(
    handbook: Path, warmed: Path, tmp_path: Path
) -> None:
    shutil.copytree(handbook / "handbook.index", tmp_path / "handbook.index")
    assert run(MADE, tmp_path, environment(tmp_path, warmed)) == []
    answer = (tmp_path / "answer.txt").read_text(encoding="utf-8").partition("\nread by:")[0]
    (tmp_path / "beside.html").write_text(BESIDE.format(question=QUESTION, answer=answer), encoding="utf-8")
    into = Path(PICTURES) if PICTURES else tmp_path
    with chromium() as browser:
        for name, file, height in (
            ("tree", "tree", 430),
            ("review", "review", 980),
            ("answer", "beside", 900),
        ):
            page = browser.new_page(viewport={"width": 1500 if name == "answer" else 1100, "height": height})
            page.goto((tmp_path / f"{file}.html").as_uri())
            page.wait_for_timeout(300)
            page.screenshot(path=into / f"{name}.png")
            assert (into / f"{name}.png").stat().st_size > 20_000, f"{name}.png shows next to nothing"
