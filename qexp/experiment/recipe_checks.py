"""What in a recipe contradicts itself, or has nothing to act on."""

from itertools import pairwise

from qexp import quantizers
from qexp.config.config import Config
from qexp.config.identity import OF_CODES
from qexp.utils.errors import UsageError


def check_accumulate(config: Config) -> None:
    """Raise UsageError where a part of a batch would be a single image, which batch norm cannot train on."""
    recipe = config.recipe
    if recipe.accumulate > 1 and recipe.batch_size < 2 * recipe.accumulate:
        raise UsageError(
            f"recipe.accumulate={recipe.accumulate}: parts of two images or more need a recipe.batch_size of "
            f"{2 * recipe.accumulate} or more, not {recipe.batch_size}"
        )


def check_patience(config: Config) -> None:
    """Raise UsageError where training is to end early by the accuracy on held-out images, and there are none."""
    recipe = config.recipe
    if recipe.patience and not recipe.holdout:
        raise UsageError(f"recipe.patience={recipe.patience}: needs images to judge by; recipe.holdout=N keeps some")


def check_remedies(config: Config) -> None:
    """Raise UsageError where a remedy for oscillating weights has none to act on."""
    for name in OF_CODES:
        value = getattr(config.recipe, name)
        if value and config.weight_bits == quantizers.FLOAT_BITS and not config.is_float:
            raise UsageError(f"recipe.{name}={value:g}: there are no quantized weights with weight_bits=32")


def check_restarts(config: Config) -> None:
    """Raise UsageError where the learning rates cannot begin anew as they are told to."""
    schedule = config.recipe.schedule
    times = schedule.restarts
    if not times:
        return
    shown = f"recipe.schedule.restarts=[{','.join(f'{time:g}' for time in times)}]"
    if schedule.own is not None or schedule.name == "constant":
        named = "one of your own" if schedule.own is not None else "name=constant"
        raise UsageError(f"{shown}: begin cosine and step anew, and not {named}")
    if times[0] <= 0 or times[-1] >= 1 or any(late <= early for early, late in pairwise(times)):
        raise UsageError(f"{shown}: must rise, and lie between 0 and 1, such as [0.25,0.5]")
    if times[0] <= schedule.warmup:
        raise UsageError(f"{shown}: the first must come after recipe.schedule.warmup={schedule.warmup:g}")
