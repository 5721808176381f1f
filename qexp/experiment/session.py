"""The objects of one run on their device: network and batches."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from qexp.config.config import Config
from qexp.config.places import data_root
from qexp.config.trust import is_own
from qexp.data.augment import Augmented, Mixed
from qexp.data.batches import Batches
from qexp.engine import weights
from qexp.engine.loop import seed_everything
from qexp.experiment.build import Parts, build_covered
from qexp.experiment.device import pick_device, place
from qexp.experiment.own_functions import own_augment
from qexp.experiment.own_parts import check_dataset
from qexp.experiment.pretrained_start import PretrainedStart
from qexp.experiment.threads import set_threads
from qexp.utils.signals import StopRequest


class Session:
    """Everything that a run trains and evaluates with.

    Args:
        config: of the run.
        parts: of the run.
        checkpoint_file: what the network begins with.
        pretrained: weights that the float network begins with, where there is no such file.
        stop: asks for an early end.

    Attributes:
        model: the quantized network, on its device.
        coverage: what of it is quantized.
        is_calibrated: whether its ranges came with the checkpoint.
        recorded_codes: those that the checkpoint records, packed; None without any, or for another quantizer.
    """

    def __init__(
        self,
        config: Config,
        parts: Parts,
        *,
        checkpoint_file: Path | None = None,
        pretrained: PretrainedStart | None = None,
        stop: StopRequest | None = None,
    ):
        self.config, self.parts, self.stop = config, parts, stop or StopRequest()
        self.device = pick_device(config.device)
        set_threads(config, parts)
        seed_everything(config.seed)
        self.data, self._classes = parts.source.load(data_root(config.data_dir)), parts.source.classes
        if is_own(config.dataset.target):
            check_dataset(self.data, parts.source)
        if config.recipe.holdout:
            self.data = self.data.holding_out(config.recipe.holdout, config.seed)
        found = weights.load_network(checkpoint_file) if checkpoint_file else None
        state = found.state if found else None
        self.recorded_codes = found.codes if found and _has_same_codes(found.run, config) else None
        self.is_calibrated = state is not None and weights.holds_quantizers(state)
        model = pretrained.network(parts) if pretrained else None
        network, self.coverage = build_covered(config, parts, state, model=model, source=str(checkpoint_file))
        self.model = place(network, config, self.device)

    @cached_property
    def train_batches(self) -> Batches:
        """Shuffled and augmented training images."""
        config, recipe = self.config, self.config.recipe
        batches = self.data.train_batches(
            recipe.batch_size,
            device=self.device,
            seed=config.seed,
            crop=recipe.crop,
            flip=recipe.flip,
            randaugment=recipe.randaugment,
            workers=config.workers,
        )
        own = own_augment(config)
        return batches if own is None else Augmented(batches, own, config.seed)

    @property
    def mixed_batches(self) -> Batches:
        """What is trained on: training images, mixed with each other where the recipe says so."""
        recipe, classes = self.config.recipe, self._classes
        if not (recipe.mixup or recipe.cutmix):
            return self.train_batches
        mixes = {"mixup": recipe.mixup, "cutmix": recipe.cutmix}
        return Mixed(self.train_batches, classes=classes, seed=self.config.seed, **mixes)

    @cached_property
    def test_batches(self) -> Batches:
        """Test images, in order."""
        size, workers = self.config.recipe.eval_batch_size, self.config.workers
        return self.data.test_batches(size, device=self.device, workers=workers)

    @cached_property
    def held_out_batches(self) -> Batches:
        """The training images that are held out, in order; only where the recipe says so."""
        size, workers = self.config.recipe.eval_batch_size, self.config.workers
        return self.data.held_out_batches(size, device=self.device, workers=workers)


def _has_same_codes(run: Mapping[str, Any] | None, config: Config) -> bool:
    """Whether the weights of a run's network are quantized in the same way as those of `config`."""
    keys = ("model", "quantizer", "weight_bits", "keep_float", "layer_bits")
    return run is not None and all(run.get(key) == config.identity.get(key) for key in keys)
