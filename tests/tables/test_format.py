"""Tables as markdown, and the notes below them."""

from pathlib import Path

from qexp.config.compose import Composer
from qexp.tables.format import as_markdown, markdown, notes
from qexp.tables.join import join
from support.papers import asked, fabricate, paths


def test_markdown_escapes_what_a_table_cannot_hold() -> None:
    text = markdown(["a", "b"], [["x|y", "1*"]], ["b"])
    assert text == "| a | b |\n| --- | ---: |\n| x\\|y | 1\\* |"


def test_notes_are_below_the_table(folder: Path, composer: Composer) -> None:
    empty = join(folder, "a/small", asked(), composer)
    assert not any(line.startswith("trained with") for line in notes(empty)["our runs"])
    fabricate(paths(empty, "ste")[0], 50.0, unsettled=["x"])
    joined = join(folder, "a/small", asked(), composer)
    below = notes(joined)
    assert below["notes"][0].startswith("* in a run some quantizers")
    assert below["notes"][1:] == ["ste: a|b", "dqa: from page 4"]
    assert "epochs: 5" in below["the paper's protocol"]
    assert "numbers from: page 3" in below["the paper's protocol"]
    assert below["our runs"][-2:] == ["trained with qexp 9.9, torch 8.8 on abacus", "ours is smaller"]
    text = as_markdown(joined)
    assert text.startswith("### a/small: Two nets\n\nSomebody 2020\n\n| row |")
    assert "\n- \\* in a run" in text
    assert "\n- epochs: 5\n" in text
