"""What only a CUDA device shows: steps that do not wait for it, compiled networks, the gradients of the CPU."""

import subprocess
import sys
import time
import warnings
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from torch._dynamo.utils import counters

from qexp.engine.metrics import Tally
from qexp.experiment.build import make_step
from qexp.models.mobilenet import mobilenetv2
from qexp.quantizers import Dampening, Freezing, anneal, hard_evaluation, noise, recompute, sampling
from qexp.quantizers.relaxed import RelaxedQuantizer
from qexp.utils.types import Progress
from support import methods
from support.commands import TINY
from support.crashes import difference, only_run, result
from support.hard_nets import images, logits, quantized, small
from support.steps import WORDS, Whole, assert_same, batch, gradients, make, network, take

DEVICE = torch.device("cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
GRIDS = ["ste grid=sawb", "ste grid=sawb sawb=formula", "ste grid=twn"]
GRIDS += [f"{name} granularity=channel" for name in ("ste", "ste grid=twn", "dqa", "daq")]
names = pytest.mark.parametrize("name", WORDS)


def on_device(model, *tensors):
    return model.to(DEVICE), *(tensor.to(DEVICE) for tensor in tensors)


@contextmanager
def without_waiting():
    """An operation that waits for the device is an error inside the block."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns once that this mode does not see everything
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def test_waiting_is_noticed():
    """So that the next test can fail."""
    value = torch.ones((), device=DEVICE)
    with without_waiting(), pytest.raises(RuntimeError, match="synchroniz"):
        value.item()
    assert value.item() == 1


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("accumulate", "again"), [(1, False), (1, True), (3, False)])
@pytest.mark.parametrize("name", [*WORDS, *GRIDS])
def test_a_step_does_not_wait_for_the_device(name, accumulate, again, precision):
    """Annealing with new ranges, the step with its optimizers (and the scaler of float16), the metrics."""
    model, images, labels = on_device(network(name, norm=True), *batch())
    recompute(model, again)
    step, tally = make(model, precision=precision, accumulate=accumulate), Tally(DEVICE)

    def train(number):
        anneal(model, Progress(number, 200, number // 100, 2))
        step.follow_schedules(number / 200)
        outcome = take(step, images, labels)
        tally.add(outcome.logits, labels, outcome.loss, outcome.penalty)

    train(1)  # libraries choose their algorithms, optimizers make their state
    torch.cuda.synchronize()
    with without_waiting():
        train(101)  # sawb finds its clip again
        train(102)
    metrics, _ = tally.read()
    assert metrics.images == 36
    assert 0 < metrics.loss < 10


@pytest.mark.parametrize("name", [*WORDS, *GRIDS])
def test_remedies_do_not_wait_for_the_device(name):
    """Dampening and freezing, with weights that freeze."""
    model, images, labels = on_device(network(name, norm=True), *batch())
    dampening, freezing = Dampening(model), Freezing(model)
    # Learned grids move too slowly for a code to turn back in so few steps: there all weights freeze at once.
    is_slow = any(isinstance(own, RelaxedQuantizer) for own in model.modules())
    dampening.strength, freezing.threshold = 0.1, -1.0 if is_slow else 0.0
    step = make(model, penalty=dampening, freezing=freezing)
    take(step, images, labels)
    torch.cuda.synchronize()
    with without_waiting():
        for _ in range(20):
            take(step, images, labels)
    assert any(own.frozen.any() for own in freezing.history.values())


@names
def test_freezing_goes_on_from_a_state_in_other_memory(name):
    model, images, labels = on_device(network(name, norm=True), *batch())
    freezing, other = Freezing(model), Freezing(model)
    take(make(model, freezing=freezing), images, labels)
    state = freezing.state_dict()
    other.load_state_dict({key: {k: v.cpu() for k, v in own.items()} for key, own in state.items()})
    assert {value.device.type for own in other.state_dict().values() for value in own.values()} == {"cuda"}


# The compiler's own warnings, such as that TensorFloat32 is not used, are none of ours.
@pytest.mark.filterwarnings("default")
@names
def test_a_compiled_network_trains_as_the_eager_one(name, configure):
    """Five steps: the same losses; one graph, and one of the penalty where there is one; no graph break.

    In float64, because a value that is rounded differently may change its level at 2 bits.
    """
    images, labels = batch(dtype=torch.float64)
    recipe = configure("recipe=cifar10").recipe
    losses, penalties = [], []
    torch._dynamo.reset()
    counters.clear()
    try:
        for compiled in (False, True):
            model, x, y = on_device(Whole(network(name, dtype=torch.float64, norm=True)), images, labels)
            step = make_step(model, recipe, compiled=compiled)
            outcomes = []
            for number in range(1, 6):
                anneal(model, Progress(number, 10, 0, 2))
                outcomes.append(take(step, x, y))
            losses.append([outcome.loss.item() for outcome in outcomes])
            penalties.append([float(torch.as_tensor(outcome.penalty).detach()) for outcome in outcomes])
        assert dict(counters["graph_break"]) == {}
        assert counters["stats"]["unique_graphs"] == (2 if name.startswith("dqa") else 1)
    finally:
        torch._dynamo.reset()
    eager, fused = losses
    assert len(set(eager)) == 5
    assert fused == pytest.approx(eager, rel=1e-5)
    assert penalties[1] == pytest.approx(penalties[0], rel=1e-5)


def drawn_on_the_cpu(draw, key, like, *rest):
    """What a draw gives on the CPU, on the device of `like`."""
    return draw(key, like.cpu(), *rest).to(like.device)


def test_noise_of_a_step_is_the_same_every_time_it_is_drawn():
    """On CUDA: for a key, whatever was drawn before; in the memory layout of what it is drawn for."""
    key, like = torch.tensor(7), torch.empty(4, 3, 5, 6, device=DEVICE).to(memory_format=torch.channels_last)
    first = noise.draw(key, like, 3, True)
    torch.rand(10, device=DEVICE)
    assert torch.equal(noise.draw(key, like, 3, True), first)
    assert torch.equal(noise.draw(key, like.contiguous(), 3, True), first)
    assert not torch.equal(noise.draw(torch.tensor(8), like, 3, True), first)
    assert first[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("name", [*WORDS, *GRIDS])
def test_gradients_are_those_of_the_cpu(name, accumulate, again, monkeypatch):
    """Of every parameter, to 1e-4 of its largest; the buffers too. In float64, so that no value changes its level.

    Random numbers of devices differ, so that both are given those of the CPU.
    """
    monkeypatch.setattr(sampling, "draw", partial(drawn_on_the_cpu, sampling.draw))
    monkeypatch.setattr(noise, "draw", partial(drawn_on_the_cpu, noise.draw))
    images, labels = batch(dtype=torch.float64)
    model = network(name, dtype=torch.float64, norm=True)
    make(model, accumulate=accumulate)(images, labels)
    twin, x, y = on_device(network(name, dtype=torch.float64, norm=True), images, labels)
    recompute(twin, again)
    make(twin, accumulate=accumulate)(x, y)
    expected, ours = gradients(model), gradients(twin)
    assert ours.keys() == expected.keys()
    for key, grad in expected.items():
        assert ours[key].device.type == DEVICE.type
        assert (ours[key].cpu() - grad).abs().max() <= 1e-4 * grad.abs().max() + 1e-7, key
    buffers = {key: value.cpu() for key, value in twin.named_buffers()}
    assert_same(buffers, dict(model.named_buffers()), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("bits", [(1, 1), (2, 2), (5, 6), (8, 8)])
@pytest.mark.parametrize("make_net", [small, mobilenetv2], ids=["small", "mobilenetv2"])
@pytest.mark.parametrize("name", [*WORDS, *(name for name in GRIDS if "twn" not in name and "formula" not in name)])
def test_hard_logits_are_those_of_the_cpu(name, make_net, bits):
    """Bit for bit, as is the network that they are of; mixes begin with 2 bits, as some methods do."""
    least = 2 if "mix=" in name else min(methods.method(name).weight_bits)
    bits = (max(bits[0], least), bits[1])
    bits = (bits[0], 2) if "activation_mix=" in name else bits
    whole = partial(mobilenetv2, classes=10, channels=3, image_size=12, width=0.25)
    whole = whole if make_net is mobilenetv2 else small
    model = quantized(name, *bits, make=whole)
    expected = logits(model)
    model.to(DEVICE)
    with torch.inference_mode(), hard_evaluation(model):
        found = model(images().to(DEVICE)).cpu()
    assert torch.equal(found, expected)


USUAL = ["recipe.ema=0.9", "recipe.clip_norm=1", "recipe.mixup=0.2", "recipe.cutmix=0.2", "recipe.randaugment=9"]
USUAL += ["recipe.holdout=20", "recipe.patience=3", "recipe.optimizer.weight.name=adamw"]


@pytest.mark.parametrize("chosen", [["quantizer=dqa"], ["quantizer=daq", "quantizer.granularity=channel", *USUAL]])
def test_a_killed_run_goes_on_in_the_same_bits(tmp_path, chosen):
    """With deterministic=true; processes of their own, because CUDA does not survive a fork."""
    words = [sys.executable, "-m", "qexp", "train", *TINY, "device=cuda", "deterministic=true", "recipe.epochs=4"]
    words += ["recipe.batch_size=16", "checkpoint.steps=1", *chosen, "init=scratch", "tracking.step_interval=1"]
    found = []
    for name, kills in (("whole", 0), ("killed", 3)):
        folder = tmp_path / name
        folder.mkdir()
        for _ in range(kills):
            with subprocess.Popen(words, cwd=folder) as process:
                while process.poll() is None and not list(folder.glob("runs/*/*/*/*/previous.pt")):
                    time.sleep(0.05)
                process.kill()
        subprocess.run(words, cwd=folder, check=True)
        found.append(result(only_run(folder)))
    assert difference(*found) is None
