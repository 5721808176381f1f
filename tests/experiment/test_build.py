"""Parts of batches are checked before a run starts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qexp.config.schema import Invalid
from qexp.experiment.preflight import check, check_accumulate
from qexp.utils.errors import UsageError
from support.commands import Configure


def test_parts_of_a_batch_have_two_images_or_more(configure: Configure) -> None:
    """32 parts of 64 images are accepted, 33 are not; a batch of one is one part, as always."""
    for size, parts in ((64, 32), (65, 32), (2, 1), (1, 1)):
        check_accumulate(configure(f"recipe.batch_size={size}", f"recipe.accumulate={parts}").recipe)
    for size, parts, needed in ((64, 33, 66), (63, 32, 64), (3, 2, 4), (1, 2, 4)):
        expected = (
            f"recipe.accumulate={parts}: parts of two images or more need a recipe.batch_size of {needed} or more, "
            f"not {size}"
        )
        with pytest.raises(UsageError) as caught:
            check_accumulate(configure(f"recipe.batch_size={size}", f"recipe.accumulate={parts}").recipe)
        assert str(caught.value) == expected


def test_too_many_parts_are_refused_before_a_run_starts(configure: Configure) -> None:
    """Beside other mistakes, in one line."""
    words = ("dataset=synthetic", "model=resnet20", "init=scratch", "device=cpu", "recipe.batch_size=8")
    check(configure(*words, "recipe.accumulate=4"), fetch=False)
    with pytest.raises(Invalid) as caught:
        check(configure(*words, "recipe.accumulate=5", "keep_float=[nothing]"), fetch=False)
    assert len(caught.value.problems) == 2
    assert str(caught.value.problems[0]) == (
        "recipe.accumulate=5: parts of two images or more need a recipe.batch_size of 10 or more, not 8"
    )


def test_too_many_parts_are_refused_in_any_job_of_a_sweep(train: Callable[..., Any]) -> None:
    """Jobs that differ in nothing else are checked one by one; nothing is trained."""
    result = train("-m", "recipe.batch_size=8", "recipe.accumulate=1,5")
    assert result.code == 2
    assert (
        "recipe.accumulate=5: parts of two images or more need a recipe.batch_size of 10 or more, not 8" in result.err
    )
    assert not Path("runs").exists()
