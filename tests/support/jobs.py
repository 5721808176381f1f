"""What a command means: the choices that it has, and its jobs."""

from qexp.config.compose import composing
from support.commands import Qexp


def choices(group: str) -> list[str]:
    with composing() as composer:
        return composer.choices(group)


# Sweeps and the user's own files


def jobs_of(qexp: Qexp, *words: str) -> list[tuple[str, str]]:
    """(overrides, run directory below the model) of every job in a dry run."""
    result = qexp("train", *words, "--dry-run")
    assert (result.code, result.err) == (0, ""), result.err
    lines = result.out.splitlines()[:-1]
    directories = [line.split()[0] for line in lines[1::2]]
    return list(
        zip(lines[::2], ["/".join(path.split("/")[3:]).partition("-s")[0] for path in directories], strict=True)
    )


def methods_of(jobs: list[tuple[str, str]]) -> list[str]:
    return [directory.split("/")[0] for _, directory in jobs]


LOCAL_METHOD = """
_target_: qexp.quantizers.ste.STE
name: mine
default_bits: 4
grid: minmax
activation_grid: minmax
sawb: search
granularity: tensor
"""
