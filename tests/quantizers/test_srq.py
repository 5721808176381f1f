"""SRQ and CPQ against vectors of an independent implementation (tests/golden/family_public.npz)."""

from support.family import family


def test_every_kind_of_grid_is_recorded():
    assert {int(case["kind"]) for case in family("srq")} == {0, 1, 2}
