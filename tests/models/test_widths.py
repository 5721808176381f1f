"""Widths."""

from qexp.models.widths import scaled


def test_scaled_rounds_and_never_reaches_zero() -> None:
    assert [scaled(16, width) for width in (1.0, 0.5, 0.1, 0.01, 1.25)] == [16, 8, 2, 1, 20]
