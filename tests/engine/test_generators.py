"""Random generators."""

import random

import numpy as np
import torch

from qexp.engine.train_state import random_state, restore_random_state


def test_random_generators_come_back() -> None:
    state = random_state()
    first = (torch.rand(2).tolist(), random.random(), np.random.rand())
    torch.rand(5), random.random(), np.random.rand(3)
    restore_random_state(state)
    assert (torch.rand(2).tolist(), random.random(), np.random.rand()) == first
