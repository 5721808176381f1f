"""Which trainings are drawn on a page of many runs, and what is said of the others."""

from pathlib import Path

import pytest

from qexp.report import page_charts
from qexp.report.page_charts import figures_of
from qexp.report.page_content import Lines, Picture
from qexp.report.page_rows import means_table
from qexp.runs.query import entries
from qexp.runs.run_values import ListedRun, listed_runs
from support.stored_runs import make


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Figure -> the runs that it was asked of; nothing is drawn."""
    found: dict[str, list[str]] = {}

    class Nothing:
        caption = ("said", "Trained with commit x.")

    def remember(name: str, request: object) -> type[Nothing]:
        found[name] = [Path(word).name for word in request.words]  # type: ignore[attr-defined]
        return Nothing

    monkeypatch.setattr(page_charts, "make_chart", remember)
    return found


def stored(quantized: int, floats: int) -> list[ListedRun]:
    """Runs of rows that differ in their bits, each better than the one before; float runs are the worst."""
    for at in range(quantized):
        bits, other = 1 + at % 8, 1 + at // 8
        summary = {"weight_bits": bits, "activation_bits": other, "top1_hard": 50.0 + at}
        path = make(f"daq-w{bits}a{other}/s0-{chr(97 + at) * 8}", summary=summary)
        text = (path / "config.yaml").read_text()
        (path / "config.yaml").write_text(
            text.replace("weight_bits: 2", f"weight_bits: {bits}\nactivation_bits: {other}")
        )
    for at in range(floats):
        path = make(
            f"fp-w32a32/s0-{chr(65 + at) * 8}",
            summary={"quantizer": "fp", "weight_bits": 32, "activation_bits": 32, "top1_hard": 10.0 + at},
        )
        text = (path / "config.yaml").read_text()
        (path / "config.yaml").write_text(
            text.replace("weight_bits: 2", "weight_bits: 32").replace("width: 0.25", f"width: {at + 1}.0")
        )
    return listed_runs(entries(Path("runs")))


@pytest.mark.parametrize(("quantized", "floats"), [(12, 4), (12, 1), (2, 0)])
def test_as_many_as_a_legend_has_room_for_are_all_drawn(
    workspace: Path, asked: dict[str, list[str]], quantized: int, floats: int
) -> None:
    runs = stored(quantized, floats)
    parts = figures_of(runs, means_table(runs)[1])
    assert set(asked) == {"bits", "curves", "gap", "flips"}
    assert {len(own) for own in asked.values()} == {quantized + floats}
    assert [list(part.notes) for part in parts if isinstance(part, Picture)] == [["said"]] * 4


def test_of_more_the_best_are_and_the_float_nets_beside_them(workspace: Path, asked: dict[str, list[str]]) -> None:
    runs = stored(15, 5)
    parts = figures_of(runs, means_table(runs)[1])
    assert len(asked["bits"]) == 20
    best = {f"s0-{chr(97 + at) * 8}" for at in range(3, 15)} | {f"s0-{chr(65 + at) * 8}" for at in range(1, 5)}
    assert set(asked["curves"]) == best
    note = "Drawn: 16 runs of 20, those of the 12 quantized rows with the best mean and of 4 float rows."
    said = [list(part.notes) for part in parts if isinstance(part, Picture)]
    assert sorted(said, key=len) == [["said"], *[["said", note]] * 3]


def test_what_cannot_be_drawn_is_told_with_its_reason(workspace: Path) -> None:
    """These runs recorded no epochs."""
    runs = stored(2, 0)
    parts = figures_of(runs, means_table(runs)[1])
    (told,) = [part for part in parts if isinstance(part, Lines)]
    assert [line.partition(":")[0] for line in told.lines] == ["Not drawn"] * len(told.lines)
    assert any("flips" in line for line in told.lines)
