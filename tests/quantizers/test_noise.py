"""The random numbers of quantizers: a pure function of seed, layer, side, step and part of the batch."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qexp.quantizers import anneal, begin_part, cached_weights, named_quantizers, quantize, recompute, sampling
from qexp.quantizers import noise as noise_module
from qexp.quantizers.noise import Noise, draw
from qexp.utils.types import Progress
from support import methods
from support.random_method import Chance

RANDOM = [site for site in methods.all_sites() if methods.build(*site).is_random]


def noise(seed: int = 0, layer: str = "conv1", side: str = "weight", step: int = 1, part: int = 0) -> Noise:
    made = Noise()
    made.begin(seed, layer, side)
    made.go_to(step)
    made.go_to_part(part)
    return made


def net(seed: int = 0, order: tuple[int, ...] = (0, 1)) -> nn.Sequential:
    """Two layers with quantizers that are random; `order` is that in which they are made."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3)]
    model = nn.Sequential(*layers)
    quantize(
        model,
        Chance([]),
        weight_bits=4,
        activation_bits=4,
        keep_float=[],
        seed=seed,
        sample=torch.zeros(1, 3, 8, 8),
    )
    return model


IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_each_of_seed_layer_side_step_and_part_gives_other_numbers() -> None:
    like = torch.empty(1000)
    changes = [{}, {"seed": 1}, {"layer": "conv2"}, {"side": "input"}, {"step": 2}, {"part": 1}]
    drawn = torch.stack([noise(**change).exponential(1, like)[0] for change in changes])
    assert torch.corrcoef(drawn).fill_diagonal_(0).abs().max() < 0.15  # 4.7 deviations
    again = torch.stack([noise(**change).exponential(1, like)[0] for change in changes])
    assert torch.equal(drawn, again)


def test_equal_numbers_of_all_types_are_one_place() -> None:
    """A seed or a step that comes from NumPy or a tensor."""
    expected = noise(seed=1, step=3, part=0).key
    for kind in (np.int64, np.uint8, torch.tensor):
        assert torch.equal(noise(seed=kind(1), step=kind(3), part=kind(0)).key, expected)
    assert torch.equal(noise(seed=True, step=3, part=False).key, expected)
    keys = [own.noise.key for seed in (5, np.int64(5)) for _, own in named_quantizers(net(seed=seed))]
    assert keys[: len(keys) // 2] == keys[len(keys) // 2 :]
    for seed in (None, 0.0, "0"):
        with pytest.raises(TypeError):
            net(seed=seed)  # type: ignore[arg-type]


def test_neither_draws_nor_the_way_there_nor_torchs_generator_change_the_numbers() -> None:
    like = torch.empty(50)
    expected = noise(step=7).uniform(50, like)
    walked = noise(step=1)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    for step in range(1, 8):
        walked.go_to(step)
        walked.exponential(2, like)
    assert torch.equal(walked.uniform(50, like), expected)
    assert torch.equal(walked.uniform(50, like), expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_numbers_belong_to_places_and_not_to_memory() -> None:
    """channels_last changes nothing but the order in memory."""
    plain = torch.empty(2, 3, 4, 5)
    last = plain.to(memory_format=torch.channels_last)
    one, other = noise().exponential(3, plain), noise().exponential(3, last)
    assert torch.equal(one, other)
    assert one[0].is_contiguous()
    assert other[0].is_contiguous(memory_format=torch.channels_last)


def test_what_numbers_are_drawn_for_may_be_half_precision_or_need_a_gradient() -> None:
    """Both are what a layer's input is while training. In half precision the smallest number would be 0."""
    x = torch.ones(200_000, dtype=torch.float16, requires_grad=True)
    for drawn in (noise().exponential(1, x), noise().uniform(200_000, x)):
        assert drawn.dtype == torch.float32
        assert drawn.isfinite().all()
        assert drawn.min() > 0
        (x * drawn).sum().backward()
    assert torch.equal(noise().exponential(1, x), noise().exponential(1, x.detach().float()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_negative_logarithm_is_gumbel(dtype: torch.dtype) -> None:
    """Mean 0.5772, variance pi^2 / 6, P(< t) = exp(-exp(-t)); and no number is infinite."""
    count = 400_000
    gumbel = -noise().exponential(1, torch.empty(count, dtype=dtype)).log()
    assert gumbel.dtype == dtype
    assert torch.isfinite(gumbel).all()
    assert abs(gumbel.mean().item() - 0.577216) < 5 * 1.2825 / math.sqrt(count)
    assert abs(gumbel.var().item() - math.pi**2 / 6) < 0.03
    for t in (-1.0, 0.0, 1.0, 3.0):
        share = math.exp(-math.exp(-t))
        assert abs((gumbel < t).double().mean().item() - share) < 5 * math.sqrt(share * (1 - share) / count)


def test_uniform_numbers_exclude_both_ends() -> None:
    numbers = noise().uniform(3_000_000, torch.empty(1))
    assert 0 < numbers.min() < 1e-5
    assert 1 - 1e-5 < numbers.max() < 1
    assert abs(numbers.mean().item() - 0.5) < 1e-3


def test_layers_have_streams_of_their_own_by_their_names() -> None:
    model = net()
    keys = {name: int(quantizer.noise.key) for name, quantizer in named_quantizers(model)}
    assert len(set(keys.values())) == 4
    other = nn.Sequential()
    other.add_module("1", nn.Conv2d(4, 2, 3))  # alone, and so the first
    quantize(other, Chance([]), weight_bits=4, activation_bits=4, keep_float=[], sample=torch.zeros(1, 4, 8, 8))
    assert {name: int(own.noise.key) for name, own in named_quantizers(other)} == {
        name: key for name, key in keys.items() if name.startswith("1.")
    }


def test_steps_parts_and_seeds_reach_every_quantizer_of_a_network() -> None:
    seen = []
    for seed, step, part in ((0, 1, 0), (0, 2, 0), (0, 1, 1), (1, 1, 0)):
        model = net(seed)
        anneal(model, Progress(step, 10, 0, 1))
        begin_part(model, part)
        seen.append(model(IMAGES))
        assert torch.equal(model(IMAGES), seen[-1])
    for index, one in enumerate(seen):
        assert not any(torch.equal(one, other) for other in seen[:index])
    anneal(model, Progress(1, 10, 0, 1))
    begin_part(model, 1)
    anneal(model, Progress(1, 10, 0, 1))  # a step begins with its first part
    assert torch.equal(model(IMAGES), seen[-1])


def gradients(model: nn.Module, *, again: bool, parts: int = 1) -> list[Tensor]:
    """Of a step in so many parts."""
    recompute(model, again)
    anneal(model, Progress(1, 10, 0, 1))
    model.zero_grad()
    with cached_weights(model):
        for part, images in enumerate(IMAGES.chunk(parts)):
            begin_part(model, part)
            model(images).square().sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize("parts", [1, 2])
def test_what_is_quantized_again_in_the_backward_pass_sees_the_same_noise(parts: int) -> None:
    """The gradients of a convolution need its quantized input and weight."""
    kept, again = gradients(net(), again=False, parts=parts), gradients(net(), again=True, parts=parts)
    assert all(torch.equal(one, other) for one, other in zip(kept, again, strict=True))
    assert any(grad.abs().sum() > 0 for grad in kept)


def test_all_parts_of_a_batch_share_one_draw_of_the_weights() -> None:
    model = net()
    anneal(model, Progress(1, 10, 0, 1))
    expected = model[0].quantized_weight().detach()
    with cached_weights(model):
        for part in range(2):
            begin_part(model, part)
            assert torch.equal(model[0].quantized_weight(), expected)


def test_a_copy_of_a_network_draws_on_its_own() -> None:
    model = net()
    anneal(model, Progress(1, 10, 0, 1))
    before = model(IMAGES)
    anneal(copy.deepcopy(model), Progress(2, 10, 0, 1))
    assert torch.equal(model(IMAGES), before)


# Methods that are random


def test_there_are_methods_that_are_random() -> None:
    assert {name.split()[0] for name, _, _ in RANDOM} == {"rq", "dropbits"}


@pytest.mark.parametrize(("name", "side", "bits"), RANDOM)
def test_evaluation_draws_nothing(name: str, side: str, bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training does, unless there is nothing to drop."""
    quantizer, x, drawn = methods.build(name, side, bits), methods.sample(side), []
    for module in (noise_module, sampling):
        monkeypatch.setattr(module, "draw", lambda *given: drawn.append(given) or draw(*given))
    quantizer.calibrate(x)
    quantizer.eval()
    for mode in ("hard", "soft"):
        quantizer.evaluation = mode
        quantizer(x)
    quantizer.codes(x)
    assert drawn == []
    quantizer.train()(x)
    assert len(drawn) == 1


@pytest.mark.parametrize(("name", "side", "bits"), RANDOM)
def test_a_step_has_one_draw_and_the_next_another(name: str, side: str, bits: int) -> None:
    quantizer, x = methods.build(name, side, bits), methods.sample(side, 64, 8, 3, 3)
    quantizer.calibrate(x)
    quantizer.noise.go_to(1)
    state = torch.get_rng_state()
    first = quantizer(x)
    assert torch.equal(quantizer(x), first)
    assert torch.equal(quantizer.requantize(x), first)
    assert torch.equal(torch.get_rng_state(), state)
    others = []
    for step in range(2, 30):
        quantizer.noise.go_to(step)
        others.append(quantizer(x))
    has_masks = quantizer.bits > 2 or not name.startswith("dropbits")
    assert any(not torch.equal(first, other) for other in others) is has_masks
