"""Tables as markdown, and the notes below them."""

import csv
import io
from pathlib import Path

from qexp.config.compose import Composer
from qexp.tables.format import around, as_csv, as_markdown, cells, notes
from qexp.tables.join import join
from support.papers import asked, fabricate, paths


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


def test_rows_that_hang_on_rounding_are_marked(folder: Path, composer: Composer) -> None:
    empty = join(folder, "a/small", asked(), composer)
    fabricate(paths(empty, "fp")[0], 89.0)
    first, second = paths(empty, "ste")
    fabricate(first, 70.0, firmness={"spread": 0.1})
    fabricate(second, 71.0, firmness={"spread": 0.31})
    fabricate(paths(empty, "dqa")[0], 85.0, unsettled=["x"], firmness={"spread": 2.5})
    joined = join(folder, "a/small", asked(), composer)
    ours = {row[0]: row[3] for row in cells(joined)[1]}
    assert ours == {"fp": "89.00", "ste": "70.50 ± 0.71†", "dqa": "85.00*†", "lsq": "-"}
    (told,) = (line for line in notes(joined)["notes"] if line.startswith("†"))
    assert "moves by more than 0.3 points, or than the difference in the row (ste 0.31, dqa 2.50 points)" in told
    assert "| 70.50 ± 0.71† |" in as_markdown(joined)
    assert f"- {told}" in as_markdown(joined)
    assert f"\n  {told}\n" in around(joined)[1]
    read = {row["row"]: (row["spread"], row["unfirm"]) for row in csv.DictReader(io.StringIO(as_csv(joined)))}
    assert read == {"fp": ("", "0"), "ste": ("0.31", "1"), "dqa": ("2.5", "1"), "lsq": ("", "0")}
