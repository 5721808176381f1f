"""Show what torch.profiler sees of a step of ResNet-18: `python scripts/bench/profiling.py 64 quantizer=daq bits=2`."""

import sys

from networks import DEVICE, Trainee
from torch.profiler import ProfilerActivity, profile


def main(size: int, words: list[str]) -> None:
    """Print operations by their own time."""
    trainee = Trainee(*words, size=size)
    for _ in range(3):
        trainee()
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if DEVICE.type == "cuda" else [])
    with profile(activities=activities) as profiler:
        trainee()
    key = "self_cuda_time_total" if DEVICE.type == "cuda" else "self_cpu_time_total"
    print(profiler.key_averages().table(sort_by=key, row_limit=25, max_name_column_width=45))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
