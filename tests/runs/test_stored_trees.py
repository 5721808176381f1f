"""The quick reader of stored configurations: it says of every text what YAML says, and reads qexp's own without it."""

import random
from pathlib import Path
from typing import Any

import pytest

from qexp.config.yaml_files import load_yaml
from qexp.runs import stored_trees as module
from qexp.runs.stored_trees import StoredTrees

STORED = sorted((Path(__file__).parents[1] / "data" / "store").rglob("config.yaml"))
PIECES = (
    *(
        "&a ",
        "*a",
        "- ",
        "  ",
        "\n",
        "# x",
        "{a: 1}",
        "[1, 2]",
        "'",
        '"',
        "|",
        ">",
        "x: ",
        "y: 1",
        "on: 2",
        "1e-4",
        ".5",
    ),
    *(
        "0x1f",
        "1_000",
        "null",
        "~",
        ": ",
        "!!str ",
        "${bits}",
        "\t",
        "\r",
        "\x85",
        "\u2028",
        "---",
        "...",
        "<<: ",
        "? ",
    ),
    *("12:30", "-0", "+1", "1.", "é", "a: b: c", "null: 3", "1: 2", "%", "@", "`", "0o7", "08", ".inf", "2026-11-26"),
)


def read(load: Any, path: Path) -> str:
    try:
        return repr(load(path))
    except Exception:
        return "refused"


def changed(text: str, draw: random.Random) -> str:
    lines = text.split("\n")
    for _ in range(draw.randint(0, 4)):
        at = draw.randrange(len(lines))
        match draw.randrange(6):
            case 0 | 1:
                column = draw.randint(0, len(lines[at]))
                lines[at] = lines[at][:column] + draw.choice(PIECES) + lines[at][column:]
            case 2:
                lines.insert(at, lines[draw.randrange(len(lines))])
            case 3:
                lines[at] = "  " * draw.randint(0, 2) + lines[at].strip()
            case 4:
                lines[at] = f"{lines[at].split(':')[0]}: {draw.choice(PIECES)}"
            case 5:
                lines.insert(at, draw.choice(PIECES))
    return "\n".join(lines)


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(4))
def test_it_says_what_yaml_says(tmp_path: Path, seed: int) -> None:
    draw, trees, path = random.Random(seed), StoredTrees(), tmp_path / "config.yaml"
    refused = 0
    for _ in range(100):
        path.write_text(changed(draw.choice(STORED).read_text(), draw), newline="")
        expected = read(load_yaml, path)
        refused += expected == "refused"
        assert read(trees.load, path) == expected, path.read_text()
    assert 10 < refused < 90


def test_qexps_own_files_need_no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [load_yaml(path) for path in STORED]
    monkeypatch.setattr(module, "load_yaml", None)
    trees = StoredTrees()
    assert [trees.load(path) for path in STORED] == expected


def test_what_files_have_in_common_is_parsed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trees, text = StoredTrees(), STORED[0].read_text()
    first = trees.load(STORED[0])
    monkeypatch.setattr(module, "parse_text", None)
    (tmp_path / "config.yaml").write_text(text.replace("\nseed: 0\n", "\nseed: 17\n"))
    assert trees.load(tmp_path / "config.yaml") == {**first, "seed": 17}
