"""DropBits against vectors of an independent implementation (tests/golden/family_public.npz), and by themselves."""

import math
from types import SimpleNamespace

import pytest
import torch

from qexp.quantizers import LayerInfo
from qexp.quantizers.dropbits import LearnedBits
from qexp.quantizers.dropping import bounds, drawn_masks, dropped, dropped_plain, kept_probability, owners
from qexp.utils.types import Progress
from support import methods
from support.family import family

CASES = family("dropbits")
BACKWARD = ("mode", "all")
SHARING = ("bits", "points")
cases = pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))


def owner_of(case):
    return owners(int(case["bits"]), SHARING[int(case["sharing"])])


def fused(*arguments, **which):
    """`dropped`, whose owners are numbers as well."""
    return dropped(*arguments, owner_numbers=arguments[4].tolist(), **which)


def on_case(function, case, dtype, backward):
    """y and the gradients of x, alpha, sigma and the logits."""
    names = ("x", "alpha", "sigma", "logits")
    x, alpha, sigma, logits = leaves = [torch.tensor(case[name], dtype=dtype, requires_grad=True) for name in names]
    masks = drawn_masks(logits, torch.tensor(case["uniform"], dtype=dtype))
    y = function(x, alpha, sigma, masks, torch.tensor(owner_of(case)), backward=backward, mask_backward=backward)
    y.backward(torch.tensor(case["go"], dtype=dtype))
    return [y.detach(), *(leaf.grad for leaf in leaves)]


def expected_of(case, backward, dtype):
    names = ("gx", "galpha", "gsigma", "glogits")
    return [torch.tensor(case[name]).to(dtype) for name in ("y", *(f"{name}_{backward}" for name in names))]


@cases
def test_points_have_the_masks_that_are_recorded(case):
    assert [owner_of(case)[abs(int(k))] + 1 for k in case["k"]] == case["owner"].tolist()


@cases
def test_recorded_gates(case):
    """Z, its derivative, P(Z != 0), and the gate without noise, u = 1/2."""
    logits = torch.tensor(case["logits"], requires_grad=True)
    masks = drawn_masks(logits, torch.tensor(case["uniform"]))
    masks.sum().backward()
    for ours, name in ((masks.detach(), "z"), (logits.grad, "dz"), (kept_probability(logits).detach(), "kept")):
        torch.testing.assert_close(ours, torch.tensor(case[name]), rtol=1e-9, atol=1e-12)


@cases
@pytest.mark.parametrize("backward", BACKWARD)
@pytest.mark.parametrize("function", [fused, dropped_plain])
def test_recorded_values_and_gradients_in_double(case, function, backward):
    found = on_case(function, case, torch.float64, backward)
    for ours, expected in zip(found, expected_of(case, backward, torch.float64), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)


@cases
@pytest.mark.parametrize("backward", BACKWARD)
def test_recorded_values_and_gradients_in_single(case, backward):
    """The same points, gradients to 1e-4."""
    found = on_case(fused, case, torch.float32, backward)
    assert torch.equal((found[0].double() / case["alpha"]).round(), torch.tensor(case["y"] / case["alpha"]).round())
    for place, (ours, expected) in enumerate(zip(found, expected_of(case, backward, torch.float32), strict=True)):
        tolerance = 1e-4 if place else 1e-5
        torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)


def drawn(bits, sharing, seed=0):
    """Values over the whole grid and beyond, their gradient, and masks of which some are 0 and some 1."""
    draw = torch.Generator().manual_seed(seed)
    x = (torch.rand(200, generator=draw, dtype=torch.float64) - 0.5) * (2**bits + 4) * 0.3
    upstream = torch.randn(200, generator=draw, dtype=torch.float64)
    count = max(owners(bits, sharing)) + 1
    masks = (torch.rand(count, generator=draw, dtype=torch.float64) * 1.8 - 0.4).clamp(0, 1)
    return x, upstream, masks


@pytest.mark.parametrize("sharing", SHARING)
@pytest.mark.parametrize("bits", [3, 4, 5, 6])
def test_bounds_are_where_the_most_probable_point_changes(bits, sharing):
    """The arg max over all Z_i pi_i, of which the best of one candidate for each level is the shortcut."""
    owner = owners(bits, sharing)
    for seed, ratio in enumerate((0.03, 0.1, 1 / 3, 0.6, 2.0)):
        x, _, masks = drawn(bits, sharing, seed)
        alpha, sigma = (torch.tensor(value, dtype=torch.float64) for value in (0.3, 0.3 * ratio))
        k = torch.arange(1 - len(owner), len(owner))
        mask_of = [1.0 if own < 0 else masks[own].item() for own in owner]
        v = (x[:, None] - alpha * k) / sigma
        log_mass = -torch.logaddexp(v, torch.log(2 * torch.cosh(alpha / sigma / 2) + torch.exp(-v)))  # but a constant
        scores = log_mass + torch.tensor([mask_of[abs(own)] for own in k.tolist()]).double().log()
        best = scores.topk(2, -1)
        is_clear = best.values[:, 0] - best.values[:, 1] > 1e-6
        limits = bounds(masks, torch.tensor(owner), alpha, sigma)
        chosen = torch.bucketize(x.abs(), limits, right=True) * x.sign()
        assert torch.equal(chosen[is_clear], k[best.indices[:, 0]][is_clear].double())
        assert is_clear.double().mean() > 0.9
        for level in range(3, bits + 1) if sharing == "bits" else ():
            low, high = 2 ** (level - 2), 2 ** (level - 1) - 1
            own = [place for place, value in enumerate(k.tolist()) if low <= abs(value) <= high]
            nearest = (x / alpha).abs().round().clamp(low, high) * x.sign()
            best_of_level = k[torch.tensor(own)][scores[:, own].argmax(-1)].double()
            is_finite = scores[:, own].amax(-1) > -torch.inf
            is_between = ((x / alpha).abs() % 1 - 0.5).abs() < 1e-6
            assert torch.equal(best_of_level[is_finite & ~is_between], nearest[is_finite & ~is_between])


@pytest.mark.parametrize("mask_backward", BACKWARD)
@pytest.mark.parametrize("backward", BACKWARD)
@pytest.mark.parametrize("sharing", SHARING)
@pytest.mark.parametrize("bits", [3, 4, 6])
def test_closed_form_equals_the_plain_one(bits, sharing, backward, mask_backward):
    """Also the two gradients of different kinds, and masks of 0, of 1, and with holes."""
    for seed, ratio in enumerate((0.2, 1 / 3, 0.6)):
        x, upstream, masks = drawn(bits, sharing, seed)
        x = x.clamp(-(2 ** (bits - 1)) * 0.3, 2 ** (bits - 1) * 0.3)
        results = []
        for function in (dropped_plain, fused):
            leaves = [
                x.clone(),
                *(torch.tensor(value, dtype=torch.float64) for value in (0.3, 0.3 * ratio)),
                masks.clone(),
            ]
            leaves = [leaf.requires_grad_() for leaf in leaves]
            y = function(*leaves, torch.tensor(owners(bits, sharing)), backward=backward, mask_backward=mask_backward)
            y.backward(upstream)
            results.append([y.detach(), *(leaf.grad for leaf in leaves)])
        results[0][-1] = results[0][-1] * (masks > 0)  # what the gate passes on
        for expected, ours in zip(*results, strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-9 * max(1, expected.abs().max().item()))


@pytest.mark.parametrize("backward", BACKWARD)
def test_deep_in_a_hole_gradients_are_finite_and_those_of_double(backward):
    """Level 5 is dropped and sigma a thirtieth of alpha: masses 120 sigma away, which underflow in single precision."""
    owner, found = torch.tensor(owners(6, "bits")), []
    x = torch.tensor([8.2, 11.4, 11.49, 11.51, 12.0, 15.3, 40.0]) * 0.3
    for dtype in (torch.float32, torch.float64):
        leaves = [x.to(dtype, copy=True), *(torch.tensor(v, dtype=dtype) for v in (0.3, 0.01, [1.0, 1.0, 0.0, 0.6]))]
        leaves = [leaf.requires_grad_() for leaf in leaves]
        y = fused(*leaves, owner, backward=backward, mask_backward=backward)
        y.sum().backward()
        found.append([y.detach(), *(leaf.grad for leaf in leaves)])
    for single, double in zip(*found, strict=True):
        assert torch.isfinite(single).all()
        torch.testing.assert_close(single.double(), double, rtol=2e-3, atol=2e-3 * double.abs().max().item())
    assert found[1][0].abs().max() > 0


def test_gates_of_many_draws():
    """P(Z != 0) = S(logit + 1.5986), P(Z = 1) and the mean, of 400,000 draws."""
    draw = torch.Generator().manual_seed(0)
    for logit in (-1.0, 0.0, math.log(9)):
        uniform = torch.rand(400_000, generator=draw, dtype=torch.float64)
        z = drawn_masks(torch.tensor(logit, dtype=torch.float64), uniform)
        kept = torch.sigmoid(torch.tensor(logit + 1.5986)).item()
        assert kept_probability(torch.tensor(logit)).item() == pytest.approx(kept, abs=1e-5)
        assert (z > 0).double().mean().item() == pytest.approx(kept, abs=3e-3)
        assert (z == 1).double().mean().item() == pytest.approx(1 / (1 + math.exp(1.5986 - logit)), abs=3e-3)
        places = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
        assert z.mean().item() == pytest.approx(
            drawn_masks(torch.tensor(logit).double(), places).mean().item(), abs=3e-3
        )
    start = torch.tensor(math.log(9))
    assert kept_probability(start).item() == pytest.approx(0.978, abs=5e-4)


def test_logits_act_as_if_they_ended_at_log_100():
    logits = torch.tensor([-50.0, 50.0], requires_grad=True)
    masks = drawn_masks(logits, torch.tensor([0.999, 0.02]))
    torch.testing.assert_close(
        masks, drawn_masks(torch.tensor([-math.log(100), math.log(100)]), torch.tensor([0.999, 0.02]))
    )
    kept_probability(logits).sum().backward()
    assert (logits.grad > 0).all()


def built(bits=4, layer=None, **changes):
    changes = {"learn_bits": True} | changes
    quantizer = methods.method("dropbits", **changes).weight(bits, layer or LayerInfo())
    quantizer.calibrate(methods.sample("weight"))
    return quantizer


def at(quantizer, step, steps=10):
    quantizer.noise.go_to(step)
    quantizer.anneal(Progress(step, steps, 0, 1))
    return quantizer


def test_a_step_has_one_mask_and_the_next_another():
    quantizer, x = built(5, learn_bits=False).train(), methods.sample("weight")
    first = at(quantizer, 1)(x)
    assert torch.equal(first, quantizer.requantize(x))
    assert any(not torch.equal(first, at(quantizer, step)(x)) for step in range(2, 40))
    assert torch.equal(first, at(quantizer, 1)(x))


@pytest.mark.parametrize("changes", [{"learn_bits": False}, {}])
def test_evaluation_draws_nothing(changes):
    """Plain DropBits evaluates with all points, like dropout: as SRQ with the same range."""
    quantizer, x = built(**changes).eval(), methods.sample("weight")
    quantizer.noise = SimpleNamespace(uniform=lambda *_: pytest.fail("drawn"))
    usual = methods.build("srq", "weight", 4)
    usual.calibrate(x)
    quantizer.calibrate(x)
    assert torch.equal(quantizer(x), usual.eval()(x))


@pytest.mark.parametrize(
    ("logits", "bits"),
    [([1.0, 1.0, 1.0], 5), ([1.0, 1.0, -1.0], 4), ([1.0, -1.0, 1.0], 3), ([-1.0, 1.0, 1.0], 2), ([1.0, 0.0, 1.0], 3)],
)
def test_the_width_ends_at_the_first_level_that_is_not_kept(logits, bits):
    """bits, codes, levels, integers, bins and statistics are those of that width; alpha stays."""
    quantizer, x = built(5).eval(), 3 * methods.sample("weight")
    alpha = quantizer.alpha.item()
    quantizer.logits.data.copy_(torch.tensor(logits))
    fresh = methods.method("dropbits", learn_bits=True).weight(5)
    fresh.load_state_dict(quantizer.state_dict())
    for own in (quantizer, fresh.eval()):
        assert own.bits == own.stats()["bits"] == bits
        assert own.alpha.item() == alpha
        codes, levels = own.codes(x)
        k = torch.arange(1 - 2 ** (bits - 1), 2 ** (bits - 1))
        torch.testing.assert_close(levels, alpha * k)
        assert torch.equal(own(x), levels[codes.long()])
        assert own.integer_form(x).integers().abs().max() == 2 ** (bits - 1) - 1
        assert len(own.bins(x).centers) == len(k)


def test_frozen_widths_train_on_without_masks():
    """At 70 % the logits still learn; after it nothing is drawn, and they get no gradient, not even a zero."""
    quantizer, x = built(4).train(), methods.sample("weight")
    quantizer.logits.data.copy_(torch.tensor([0.5, -0.5]))
    at(quantizer, 7)
    (quantizer(x).sum() + quantizer.penalty()).backward()
    assert quantizer.logits.grad is not None
    quantizer.logits.grad = None
    at(quantizer, 8)
    assert quantizer.penalty() is None
    quantizer.noise = SimpleNamespace(uniform=lambda *_: pytest.fail("drawn"))
    y = quantizer(x)
    assert torch.equal(y, methods.frozen(quantizer)(x))
    assert len(y.unique()) == 7
    y.sum().backward()
    assert quantizer.logits.grad is None
    assert quantizer.log_alpha.grad is not None


def test_frozen_masks_without_widths_are_still_drawn():
    """By logits that get no gradient."""
    quantizer, x = built(5, learn_bits=False, learn_masks=True).train(), methods.sample("weight")
    values = [at(quantizer, step, 50)(x) for step in range(36, 50)]
    assert any(not torch.equal(values[0], other) for other in values[1:])
    values[-1].sum().backward()
    assert quantizer.logits.grad is None
    assert quantizer.penalty() is None


@pytest.mark.parametrize(("per", "share"), [("layer", 1 / 4), ("weight", 300 / 1000)])
def test_penalty_is_lambda_times_the_levels_probably_kept(per, share):
    layer = LayerInfo(layer_weights=300, total_weights=1000, layers=4)
    quantizer = built(4, layer, penalty=0.5, per=per)
    quantizer.logits.data.copy_(torch.tensor([2.0, -1.0]))
    kept = 1 / (1 + math.exp(-2.0 - 1.5986)) + 1 / (1 + math.exp(1.0 - 1.5986))
    assert quantizer.penalty().item() == pytest.approx(0.5 * share * kept, rel=1e-4)


def test_penalties_of_layers_of_different_widths_are_added_up():
    quantizers = [built(bits, LayerInfo(layers=3)) for bits in (3, 4, 8)]
    total = LearnedBits.penalties(quantizers)
    assert total.item() == pytest.approx(sum(one.penalty().item() for one in quantizers))
    assert total.item() == pytest.approx(0.1 / 3 * (1 + 2 + 6) / (1 + math.exp(-math.log(9) - 1.5986)), rel=1e-4)


def test_of_two_bits_nothing_can_be_dropped():
    """It is SRQ, and so are inputs."""
    assert type(built(2)) is type(methods.method("dropbits").activation(3)) is type(methods.method("srq").weight(2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learn_bits": True, "sharing": "points"}, "learn_bits=true needs sharing=bits"),
        ({"learn_bits": True, "keep": 0.5}, "needs keep above 0.5, not 0.5"),
        ({"keep": 1.0}, "keep.*at most 0.99"),
        ({"penalty": -1.0}, "penalty.*at least 0"),
    ],
)
def test_contradictions_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        methods.method("dropbits", **changes).check(4, 32)


@pytest.mark.parametrize(
    ("name", "side", "bits"),
    [
        ("srq", "weight", 2),
        ("srq", "activation", 1),
        ("srq activation_backward=mode", "activation", 1),
        ("srq", "activation", 3),
        ("srq", "activation", 5),
        ("dropbits learn_bits=true", "weight", 4),
        ("dropbits sharing=points learn_masks=true mask_backward=mode", "weight", 3),
    ],
)
def test_single_numbers_that_are_not_read_give_the_same(name, side, bits, monkeypatch):
    """As on CUDA, where they stay tensors: values, and gradients in double precision."""
    x = methods.sample(side, dtype=torch.float64) + (0.3 if bits == 1 else 0) * methods.sample("weight")
    results = []
    for is_read in (True, False):
        if not is_read:
            monkeypatch.setattr("qexp.quantizers.numerics._is_read", lambda _: False)
        quantizer = methods.build(name, side, bits).double().train()
        quantizer.calibrate(x)
        for step in (1, 9):
            leaf = x.clone().requires_grad_()
            y = at(quantizer, step)(leaf)
            y.backward(torch.linspace(-1, 1, x.numel(), dtype=torch.float64).view(x.shape))
            results.append([y.detach(), leaf.grad, quantizer.log_alpha.grad, quantizer.log_sigma.grad])
            results[-1].append(getattr(quantizer, "logits", x).grad)
            quantizer.zero_grad()
    for ours, expected in zip(results[:2], results[2:], strict=True):
        for one, other in zip(ours, expected, strict=True):
            if one is not None or other is not None:
                torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
