"""Weights that are held, and quantizing again in backward."""

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from qexp.quantizers import (
    cached_weights,
    named_quantizers,
    quantized_layers,
    recompute,
)
from support.steps import Calls, assert_same, batch, gradients, make, names, network, small_resnet


@names
def test_weights_are_quantized_once_for_all_parts_and_inputs_once_for_each(name):
    """Two layers, three parts, two steps; without holding, weights are quantized for each part as well."""
    for hold, times in ((cached_weights, 1), (lambda _: nullcontext(), 3)):
        model = network(name)
        step, calls = make(model, accumulate=3, cached_weights=partial(hold, model)), Calls(model)
        for number in (1, 2):
            step(*batch())
            assert sorted(calls.weight) == ["2"] * times * number + ["7"] * times * number
            assert sorted(calls.input) == ["2"] * 3 * number + ["7"] * 3 * number


@names
@pytest.mark.parametrize("count", [12, 7])
def test_held_weights_have_the_gradients_of_those_that_are_not_held(name, count):
    """Of the weights, of the quantizers' own parameters and of the output scales, in float64; and the same buffers."""
    found = []
    for hold in (cached_weights, lambda _: nullcontext()):
        model = network(name, dtype=torch.float64)
        make(model, accumulate=3, cached_weights=partial(hold, model))(*batch(count, torch.float64))
        found.append((gradients(model), dict(model.named_buffers())))
    (ours, buffers), (expected, expected_buffers) = found
    assert all(grad is not None and grad.abs().sum() > 0 for grad in expected.values())
    assert_same(ours, expected, rtol=1e-9, atol=1e-13)
    assert_same(buffers, expected_buffers)


@names
def test_held_weights_are_gone_after_the_block(name):
    """Every layer holds its quantized weight inside, none outside, also where the block was left by an exception."""
    model = network(name)
    layers = [layer for _, layer in quantized_layers(model)]
    fresh = [layer.quantized_weight().detach() for layer in layers]

    def enter(error):
        with cached_weights(model):
            assert all(torch.equal(layer.cached_weight, own) for layer, own in zip(layers, fresh, strict=True))
            assert all(layer.quantized_weight() is layer.cached_weight for layer in layers)
            if error:
                raise error

    enter(None)
    assert [layer.cached_weight for layer in layers] == [None, None]
    with pytest.raises(ZeroDivisionError):
        enter(ZeroDivisionError())
    assert [layer.cached_weight for layer in layers] == [None, None]


def test_recompute_reaches_every_layer(configure):
    """By `place`, from the configuration."""
    for value in (False, True):
        model, _, _ = small_resnet("daq", configure, f"recompute={value}")
        assert [layer.recompute for _, layer in quantized_layers(model)] == [value] * 18


class Storages(TorchDispatchMode):
    """Remembers every storage that an operation returns, weakly."""

    def __init__(self):
        super().__init__()
        self.known = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                weak = StorageWeakRef(storage)
                self.known.setdefault(weak.cdata, (weak, storage.nbytes()))
        return result

    def alive(self):
        """Bytes that have not been freed."""
        return sum(size for weak, size in self.known.values() if not weak.expired())


@names
@pytest.mark.parametrize(("kind", "hold"), [("plain", False), ("resnet", True)])
def test_quantizing_again_gives_the_same_gradients(name, hold, kind, configure):
    """Bit for bit, in training mode at 2 bits, over two steps; parameters and running ranges too."""
    found = []
    for enabled in (False, True):
        if kind == "plain":
            (images, labels), model = batch(), network(name, norm=True)
        else:
            model, images, labels = small_resnet(name, configure)
        recompute(model, enabled)
        step = make(model, accumulate=3 if hold else 1)
        for _ in range(2):
            step(images, labels)
        found.append((gradients(model), model.state_dict()))
    (expected, state), (ours, ours_state) = found
    assert_same(ours, expected)
    assert_same(ours_state, state)


@names
def test_quantizing_again_keeps_no_quantized_tensor(name):
    """Between forward and backward, exactly the bytes of quantized inputs and weights are not there any more."""
    kept = []
    for enabled in (False, True):
        model = network(name)
        recompute(model, enabled)
        quantized = []
        for _, quantizer in named_quantizers(model):
            quantizer.register_forward_hook(
                lambda *seen, own=quantized: own.append(seen[-1].untyped_storage().nbytes())
            )
        with Storages() as storages:
            logits = model(batch()[0])
        kept.append(storages.alive())
        del logits
    assert len(quantized) == 4
    assert kept[0] - kept[1] == sum(quantized)
