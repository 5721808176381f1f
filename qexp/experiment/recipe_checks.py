"""What in a recipe contradicts itself, or has nothing to act on."""

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
