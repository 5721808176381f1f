"""Training and evaluation: the loop, the optimizers, the objective and the checkpoints."""
