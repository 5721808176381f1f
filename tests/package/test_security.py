"""What docs/security.md says of a file or of a command line, line by line; each could leave a trace, and none does."""

import re
import shlex
from pathlib import Path

import pytest

from support.commands import Qexp
from support.scripts import SCRIPTS

pytestmark = pytest.mark.thorough

PAGE = (SCRIPTS.parent / "docs" / "security.md").read_text()
CASES = re.findall(r"^\| `(.+?)` \| (allowed|refused|harmless) \|", PAGE, re.MULTILINE)
LINES = [case for case in CASES if re.match(r"\w+: ", case[0])]
WORDS = [case for case in CASES if case not in LINES]
INTRUDER = "from pathlib import Path\nPath('intruder').mkdir()\n"


@pytest.fixture
def place(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of configuration outside, and inside a file that must stay and a package that must not be imported."""
    monkeypatch.setenv("SECRET", "7")
    (workspace / "precious.txt").write_text("precious")
    (workspace / "intruder.py").write_text(INTRUDER)
    monkeypatch.syspath_prepend(str(workspace))
    folder = workspace.parent / "conf of others"
    folder.mkdir()
    return folder


def assert_no_trace(workspace: Path) -> None:
    assert sorted(path.name for path in workspace.iterdir() if path.name != "__pycache__") == [
        "intruder.py",
        "precious.txt",
    ]
    assert (workspace / "precious.txt").read_text() == "precious"
    assert not Path("/tmp/elsewhere").exists()


def test_the_page_has_its_lines() -> None:
    assert (len(LINES), len(WORDS)) == (49, 12)
    assert len(CASES) == PAGE.count("| allowed |") + PAGE.count("| refused |") + PAGE.count("| harmless |")


@pytest.mark.parametrize(("text", "verdict"), LINES, ids=[text for text, _ in LINES])
def test_what_a_file_says(qexp: Qexp, workspace: Path, place: Path, text: str, verdict: str) -> None:
    """As the primary file, and, but for what only that may set, in a group that somebody chooses."""
    (place / "mine.yaml").write_text(f"defaults: [train, _self_]\n{text}\n")
    primary = qexp("train", "--config-dir", str(place), "--config-name=mine", "--dry-run")
    (place / "experiment").mkdir()
    (place / "mine.yaml").replace(place / "experiment" / "mine.yaml")
    (place / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}\n")
    chosen = qexp("train", "--config-dir", str(place), "+experiment=mine", "--dry-run")
    for result in (primary, chosen):
        assert result.code == (2 if verdict == "refused" else 0), result.err
        assert len(result.errors) == (1 if verdict == "refused" else 0), result.err
    assert_no_trace(workspace)


@pytest.mark.parametrize(("text", "verdict"), WORDS, ids=[text for text, _ in WORDS])
def test_what_the_command_line_says(qexp: Qexp, workspace: Path, place: Path, text: str, verdict: str) -> None:
    result = qexp("train", *shlex.split(text), "--dry-run")
    assert result.code == (2 if verdict == "refused" else 0), result.err
    assert_no_trace(workspace)


@pytest.mark.parametrize(("jobs", "words", "code"), [(64, (), 0), (65, (), 2), (65, ("hydra.launcher.n_jobs=100",), 0)])
def test_a_file_asks_for_so_many_processes_only(
    qexp: Qexp, place: Path, jobs: int, words: tuple[str, ...], code: int
) -> None:
    (place / "mine.yaml").write_text(
        f"defaults: [train, {{override hydra/launcher: joblib}}, _self_]\nhydra: {{launcher: {{n_jobs: {jobs}}}}}\n"
    )
    result = qexp("train", "-m", "--config-dir", str(place), "--config-name=mine", "bits=2,4", *words, "--dry-run")
    assert result.code == code, result.err
    assert ("hydra.launcher.n_jobs=65: a file may ask for 64 processes at most" in result.err) == bool(code)
