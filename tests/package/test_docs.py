"""The pages in docs/: the one on adding a method is carried out, links and places exist."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.pages import ROOT, section

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
IDS = [path.relative_to(ROOT).as_posix() for path in PAGES]


# In a process of its own, which imports the package with the new method.
CARRY_OUT = """
import pytest
from qexp.cli.main import main
assert pytest.main(["-q", "tests", "-k", "clip", "-W", "error"]) == 0
quick = ["dataset=synthetic", "dataset.train_size=64", "model=resnet20", "recipe.epochs=1", "init=scratch"]
assert main(["train", "quantizer=clip", "bits=4", *quick]) == 0
assert main(["train", "quantizer=clip", "quantizer.deviations=-1"]) == 2
"""


@pytest.mark.process
def test_adding_a_method_takes_four_files(tmp_path):
    """The page's files in a copy of the tree: its own test, the contract test at every bit-width, and a training."""
    text = section((ROOT / "docs" / "add_a_method.md").read_text(), "The files")
    files = re.findall(r"^`(\S+)`\n\n(`{3,})\w+\n(.*?)^\2$", text, re.DOTALL | re.MULTILINE)
    assert [name for name, _, _ in files] == [
        "qexp/quantizers/clip.py",
        "conf/quantizer/clip.yaml",
        "tests/quantizers/test_clip.py",
        "docs/methods/clip.md",
    ]
    for folder in ("qexp", "conf"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("support/methods.py", "quantizers/test_contract.py"):
        (tmp_path / "tests" / name).parent.mkdir(parents=True)
        shutil.copy(ROOT / "tests" / name, tmp_path / "tests" / name)
    (tmp_path / "docs" / "methods").mkdir(parents=True)
    for name, _, content in files:
        (tmp_path / name).write_text(content)

    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{tmp_path / 'tests'}"}
    command = [sys.executable, "-P", "-c", CARRY_OUT]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 16 * 10
    assert "clip W4A4" in done.stdout
    assert done.stderr == "qexp train: error: quantizer.deviations=-1.0: must be greater than 0\n"


def without_example(page: Path) -> str:
    """The text of a page, without the files of the method that one of them adds."""
    text = page.read_text()
    return text.replace(section(text, "The files"), "") if page.name == "add_a_method.md" else text


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page):
    """Files exist, and so do the headings in them."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", without_example(page)):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in _anchors(target.read_text())):
            broken.append(link)
    assert broken == []


def _anchors(text: str) -> set[str]:
    """The anchors of the headings as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_places_in_the_tree_exist(page):
    """What a page calls `qexp/...`, `tests/...`, `scripts/...`, `conf/...` or `docs/...` is there."""
    text = without_example(page)
    if page.name == "CHANGELOG.md":
        return  # tells of the past
    named = re.findall(r"`((?:qexp|tests|scripts|conf|docs)/[\w./-]+)`", text)
    placeholders = re.compile("FOLDER|MODULE|PAPER|TABLE")
    assert [name for name in named if not placeholders.search(name) and not (ROOT / name).exists()] == []


def test_every_module_has_its_line_in_the_layout():
    """docs/design.md names each file of the package under its folder, and none that is gone."""
    text = section((ROOT / "docs" / "design.md").read_text(), "Layout")
    drawn, folder = set(), ""
    for line in text[text.index("qexp/\n") : text.index("tests/ ")].splitlines()[1:]:
        if found := re.match(r"  (\w+)/ ", line):
            folder = f"{found[1]}/"
        drawn |= {f"{folder}{name}" for name in re.findall(r"\b\w+\.py\b", line)}
    packages = {path.relative_to(ROOT / "qexp").as_posix() for path in (ROOT / "qexp").rglob("*.py")}
    assert drawn == {name for name in packages if not name.endswith("/__init__.py")}
