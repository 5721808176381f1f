"""Layers side by side: sizes by hand, names at the axis."""

from qexp.figures.layer_bars import MOST_LETTERS, MOST_NAMES, LayerRow, layers_chart

ROWS = [
    LayerRow("conv1", 432, 32, 32, None),
    LayerRow("layer1.conv", 9216, 2, 4, 0.61),
    LayerRow("fc", 640, 8, 32, 0.0125),
]


def test_panels_are_width_size_and_error() -> None:
    width, size, error = layers_chart("layers", ROWS, ["said"]).panels
    assert [list(mark.y) for mark in width.marks] == [[32, 2, 8], [32, 4, 32]]
    assert list(size.marks[0].y) == [432 * 4 / 1000, 9216 * 2 / 8 / 1000, 0.64]
    assert [list(error.marks[0].x), list(error.marks[0].y)] == [[1.0, 2.0], [0.61, 0.0125]]
    assert list(error.marks[0].notes) == ["layer1.conv", "fc"]
    assert error.x_names == {0.0: "conv1", 1.0: "layer1.conv", 2.0: "fc"}
    assert width.y_names == {32.0: "32", 2.0: "2", 4.0: "4", 8.0: "8"}


def test_the_sum_is_told() -> None:
    assert layers_chart("layers", ROWS, ["said"]).caption == [
        "3 layers, 10,288 weights, 4.7 kB at these bits, 41.2 kB as float32.",
        "said",
    ]


def test_many_and_long_names_are_thinned_and_cut() -> None:
    rows = [LayerRow(f"features.{at}.conv.block.depthwise", 8, 2, 2, 0.1) for at in range(100)]
    names = layers_chart("layers", rows).panels[2].x_names
    assert len(names) <= MOST_NAMES
    assert list(names)[:2] == [0.0, 3.0]
    assert set(map(len, names.values())) == {MOST_LETTERS}
