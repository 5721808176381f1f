"""The papers' tables: the committed ones, and what is wrong with others."""

from pathlib import Path

import pytest

from qexp import runs
from qexp.config.compose import Composer
from qexp.config.config import float_parent_of
from qexp.tables import published as tables
from qexp.tables.join import join
from qexp.utils.errors import UsageError
from support.papers import PAPER, SMALL, asked

ROWS = {
    "dqa/1": 28,
    "dqa/2": 13,
    "dqa/3": 8,
    "dqa/4": 4,
    "daq/imagenet-resnet18": 50,
    "daq/cifar10-resnet20": 5,
    "parq/cifar10-resnet20": 11,
    "rq/1": 32,
    "cpq/1": 12,
}
ALL = sorted(ROWS)
RUNNABLE = {**ROWS, "daq/imagenet-resnet18": 9, "rq/1": 16}


# The committed tables


def test_the_committed_tables_are_those_of_the_papers() -> None:
    assert tables.table_names(PAPER) == ALL
    assert {name: len(tables.load_table(PAPER, name).rows) for name in ALL} == ROWS


@pytest.mark.parametrize("name", ALL)
def test_every_row_composes_to_a_run_of_its_own_and_has_its_float_net_in_the_same_table(
    name: str, composer: Composer, workspace: Path
) -> None:
    """Under another protocol than the paper's, rows are compared with the float net."""
    joined = join(PAPER, name, asked(), composer)
    assert [line.reason for line in joined.lines if line.reason] == []
    found = [run for line in joined.lines for run in line.runs]
    assert len(found) == RUNNABLE[name] * len(joined.seeds)
    assert len({run.path for run in found}) == len(found)
    assert {line.state for line in joined.lines if line.row.overrides is None} <= {"not in qexp"}
    configs = [run.config for line in joined.lines for run in line.runs]
    floats = {runs.run_directory(config) for config in configs if config.quantizer.name == "fp"}
    assert {runs.run_directory(float_parent_of(config)) for config in configs} == floats


def test_tables_of_weights_and_of_activations_share_their_float_nets(composer: Composer, workspace: Path) -> None:
    def floats(name: str, pattern: str) -> list[Path]:
        return [line.runs[0].path for line in join(PAPER, name, asked(rows=pattern), composer).lines]

    assert floats("dqa/1", "c10_fp,c100_fp") == floats("dqa/2", "c10_fp,c100_fp")
    assert floats("dqa/3", "r18_fp") == floats("dqa/4", "r18_fp")


def test_numbers_and_words_of_some_rows() -> None:
    """Spot checks against the papers, one per table, by hand."""
    expected = {
        ("dqa/1", "c100_bwn_twn_fp_dqa"): (75.9, None, None, 5),
        ("dqa/2", "c100_ps248_dqa"): (78.1, None, None, 1),
        ("dqa/3", "mv2_minmax248_dqa"): (52.2, 77.1, None, 1),
        ("dqa/4", "r18_minmax2_br_fp"): (57.7, 81.5, None, 1),
        ("daq/imagenet-resnet18", "daq_w1a2"): (64.6, None, None, None),
        ("daq/imagenet-resnet18", "qnet_w3a32"): (70.4, None, None, None),
        ("daq/cifar10-resnet20", "w1a1"): (85.8, None, None, None),
        ("parq/cifar10-resnet20", "brt"): (91.25, None, 0.07, 3),
        ("rq/1", "mnist_srdr_w2a2"): (98.97, None, None, None),
        ("rq/1", "c10_rqst_w2a2"): (90.92, None, None, None),
        ("cpq/1", "mv2_cpq_dropbits"): (64.29, 85.64, None, None),
        ("cpq/1", "r18_cpq"): (None, None, None, None),
    }
    for (name, key), numbers in expected.items():
        (row,) = tables.select_rows(tables.load_table(PAPER, name).rows, key)
        reported = row.reported
        assert (reported.top1, reported.top5, reported.std, reported.runs) == numbers


def test_a_table_of_readings_says_so_on_top() -> None:
    """Of SRQ, CPQ and DropBits no code of the authors was there to check against, and the numbers are second-hand."""
    table = tables.load_table(PAPER, "cpq/1")
    assert "not verified by the authors' code" in table.title
    assert "not verified against the paper" in table.source


def test_adding_a_file_adds_a_table(folder: Path, composer: Composer) -> None:
    (folder / "b.yaml").write_text(SMALL)
    assert tables.table_names(folder) == ["a/small", "b"]
    assert [line.row.id for line in join(folder, "b", asked(), composer).lines] == ["fp", "ste", "dqa", "lsq"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title: Two nets\n", "", "title: missing option"),
        ("citation: ", "citaton: ", "citaton=Somebody 2020: unknown option (did you mean 'citation'?)"),
        ("top1: 90.0", "top1: 190", "rows[0].reported.top1=190.0: must be at most 100"),
        ("top1: 90.0", "top1: about 90", "rows[0].reported.top1=about 90: expected a number"),
        ("id: dqa", "id: ste", "several rows have the id ste"),
        ("quantizer=ste bits=2", '"quantizer=\'ste"', "No closing quotation"),
        ("seeds: [0, 1]", "seeds: [0, 1", ", line 9: no valid YAML"),
        ("runs: one}", "runs: one, extra: 1}", "protocol.extra=1: unknown option"),
    ],
)
def test_a_mistake_in_a_table_is_named_with_its_file(folder: Path, old: str, new: str, message: str) -> None:
    path = folder / "a" / "small.yaml"
    assert old in SMALL
    path.write_text(SMALL.replace(old, new))
    with pytest.raises(UsageError) as caught:
        tables.load_table(folder, "a/small")
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rows_are_chosen_by_id_and_by_pattern() -> None:
    rows = tables.load_table(PAPER, "dqa/1").rows
    assert [row.id for row in tables.select_rows(rows, "c100_fp,c10_minmax2*,c10_fp")] == [
        "c10_fp",
        "c10_minmax2",
        "c10_minmax2_br_fp",
        "c10_minmax248_br",
        "c10_minmax248_dqa",
        "c100_fp",
    ]
    assert len(tables.select_rows(rows, None)) == 28
