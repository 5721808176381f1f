"""What a network reports about itself, against the definition."""

import pytest
import torch

from qexp.quantizers import calibrate, quantization_errors, quantized_layers
from support.steps import names, network


@names
def test_the_error_of_a_layer_is_that_of_its_hard_values(name: str) -> None:
    """Root of sum (w - q)^2 / sum w^2. DAQ's q stands for a standardized weight, in which the error is the same."""
    model = network(name)
    calibrate(model, torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1)))
    model.eval()
    found = quantization_errors(model)
    assert list(found) == [layer for layer, _ in quantized_layers(model)]
    for layer, module in quantized_layers(model):
        weight = module.weight.detach().double()
        hard = module.weight_quantizer(module.weight).detach().double()
        if name == "daq":  # in units of the standardized weight, whose mean is 0
            deviation, mean = weight.std(), weight.mean()
            hard = hard * module.weight_quantizer.upper.double() * deviation + mean
        expected = ((weight - hard).norm() / weight.norm()).item()
        assert found[layer] == pytest.approx(expected, rel=1e-5)


def test_a_float_net_has_no_errors() -> None:
    assert quantization_errors(network()) == {}
