"""torch.compile: one graph, no graph breaks, no recompiling as temperatures change, the same losses."""

import copy

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters
from torch.nn import functional as F

from qexp.quantizers import anneal, calibrate, penalty, quantize
from qexp.utils.types import Progress
from support import methods
from support.steps import Whole

# The compiler's own warnings are none of ours.
pytestmark = [pytest.mark.training, pytest.mark.filterwarnings("default")]

METHODS = [
    *("ste", "br", "dqa", "daq"),
    "dqa activation_grid=pact",
    "dqa grid=twn",
    "ste grid=sawb",
    "br mix=[sawb@2,fp] activation_mix=[pact@2,fp]",
    "dqa granularity=channel",
    "daq granularity=channel",
    "srq",
    "srq backward=all activation_backward=mode",
    "dropbits",
    "dropbits learn_bits=true masks_until=1",
    "dropbits learn_masks=true masks_until=1 sharing=points mask_backward=mode",
]


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def network(name):
    """Four layers, the inner two quantized; double precision, in which nothing lies near a tie by chance."""
    layers = [nn.Sequential(nn.Conv2d(i, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()) for i in (3, 8, 8)]
    net = Whole(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)))
    bits = 3 if name.startswith("dropbits") else 2  # of 2 bits there is nothing to drop
    quantize(net, methods.method(name), weight_bits=bits, activation_bits=2)
    net.double().to(memory_format=torch.channels_last)
    images = torch.randn(6, 3, 8, 8, dtype=torch.float64).to(memory_format=torch.channels_last)
    calibrate(net, images)
    return net, images


def train(net, images, steps=5):
    """Losses over a whole schedule."""
    labels, found = torch.arange(len(images)) % 4, []
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for step in range(steps):
        anneal(net, Progress(step + 1, steps, step, steps))
        loss = F.cross_entropy(net(images), labels) + penalty(net)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


@pytest.mark.parametrize("name", METHODS)
def test_one_graph_serves_a_whole_schedule(name):
    """Graphs and breaks counted by the compiler itself; losses against the same network without it."""
    net, images = network(name)
    reference = copy.deepcopy(net)
    net.compile(backend="aot_eager", dynamic=False, fullgraph=True)
    assert train(net, images) == pytest.approx(train(reference, images), rel=1e-9)
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
    assert list(net.state_dict()) == list(reference.state_dict())


@pytest.mark.parametrize("name", ["br hard_from=0.5", "dropbits learn_bits=true masks_until=0.5"])
def test_a_second_phase_is_one_more_graph(name):
    """BR uses the lowest grid alone from then on, DropBits the bit-width that it has learned."""
    net, images = network(name)
    net.compile(backend="aot_eager", dynamic=False, fullgraph=True)
    train(net, images, steps=8)
    assert counters["stats"]["unique_graphs"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_generated_code_has_the_losses_of_the_eager_network(name):
    """Needs a C++ compiler, and half a minute each."""
    net, images = network(name)
    reference = copy.deepcopy(net)
    net.compile(dynamic=False, fullgraph=True)
    assert train(net, images) == pytest.approx(train(reference, images), rel=1e-9)
