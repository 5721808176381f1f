"""Samples of known distributions."""

import torch

DISTRIBUTIONS = {
    "normal": torch.distributions.Normal(0.0, 0.3),
    "laplace": torch.distributions.Laplace(0.0, 0.3),
    "uniform": torch.distributions.Uniform(-0.3, 0.3),
}


def drawn(name, count, seed=0):
    torch.manual_seed(seed)
    return DISTRIBUTIONS[name].sample((count,))
