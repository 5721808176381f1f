"""What a composed tree may make Hydra do, and what it may not: docs/security.md has the list, with a reason a line.

What the command line says is meant. What a file says is data: somebody else may have written it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from qexp.config.plugins import plugin_problems
from qexp.config.references import is_more, strings
from qexp.config.schema import Problem
from qexp.utils.text import UNFIT

# Variables that say how fast numbers are computed. Others load libraries (OMP_TOOL_LIBRARIES) or find programs (PATH).
VARIABLES = (
    *("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "OMP_PROC_BIND", "OMP_PLACES", "GOMP_SPINCOUNT", "GOMP_CPU_AFFINITY"),
    *("KMP_BLOCKTIME", "KMP_AFFINITY", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE"),
)
SCRATCH = "${oc.env:QEXP_SCRATCH,.}"  # conf/train.yaml's own: the folder of a command whose jobs run elsewhere
FOLDERS = {"run.dir": SCRATCH, "sweep.dir": SCRATCH, "sweep.subdir": "."}  # a launcher writes there
# Options of launchers and sweepers that hold commands, or places that are written to, and what is usual there.
COMMANDS = {
    **dict.fromkeys(f"launcher.{key}" for key in ("setup", "python", "srun_args", "additional_parameters")),
    "launcher.submitit_folder": "${hydra.sweep.dir}/.submitit/%j",
    "launcher.temp_folder": None,
    "launcher.pre_dispatch": "2*n_jobs",
    **dict.fromkeys(f"sweeper.{key}" for key in ("storage", "custom_search_space")),
}
MOST_JOBS = 64  # processes at a time
KNOWN = ("BasicLauncher", "BasicSweeper", "JoblibLauncher")
_NAME = re.compile(r"[\w-]{1,64}")  # of a job: part of the name of its log file


def hydra_problems(node: DictConfig, words: Sequence[str] = ()) -> list[Problem]:
    """Return what is wrong with Hydra's own part of a composed tree.

    Args:
        node: Hydra's part.
        words: of the command line.
    """
    raw: Any = OmegaConf.to_container(node, resolve=False)
    typed = {word.lstrip("+").partition("=")[0] for word in words}
    problems = [*_odd_texts(raw), *_untyped(raw, typed), *_job(raw)]
    return problems or plugin_problems(node)


def _odd_texts(raw: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what reads the clock, the environment or anything else: it may differ between the check and the run."""
    for path, text in strings(raw, "hydra"):
        if UNFIT.search(text.replace("\n", "")):
            yield Problem(path, "holds control characters", text)
        elif is_more(text.replace(SCRATCH, "")):
            yield Problem(path, "may refer to other options, and to nothing else", text)


def _untyped(raw: Mapping[str, Any], typed: set[str]) -> Iterator[Problem]:
    """Yield what counts on the command line alone."""
    why = "counts on the command line alone, because it says what is run or written"
    for key, usual in {**FOLDERS, **COMMANDS}.items():
        if (value := _at(raw, key)) not in (usual, None) and f"hydra.{key}" not in typed:
            yield Problem(f"hydra.{key}", why, value)
    for key in _at(raw, "sweeper.params") or ():
        if str(key).lstrip("+").startswith("hydra"):
            yield Problem(f"hydra.sweeper.params.{key}", why)
    jobs = _at(raw, "launcher.n_jobs")
    if isinstance(jobs, int) and jobs > MOST_JOBS and "hydra.launcher.n_jobs" not in typed:
        yield Problem("hydra.launcher.n_jobs", f"a file may ask for {MOST_JOBS} processes at most", jobs)
    for part in ("job_logging", "hydra_logging"):
        if "logging.FileHandler" in str(_at(raw, part)) and not _ways_to_choose(part) & typed:
            yield Problem(f"hydra.{part}", f"a log file is asked for on the command line alone: hydra/{part}=default")
    for part in ("launcher", "sweeper"):
        target = str(_at(raw, f"{part}._target_"))
        if target.rpartition(".")[2] not in KNOWN and not _ways_to_choose(part) & typed:
            yield Problem(f"hydra/{part}", why, target)


def _ways_to_choose(part: str) -> set[str]:
    """Return the keys by which a command line chooses a part of Hydra's."""
    return {f"hydra/{part}", f"hydra.{part}", f"hydra.{part}._target_"}


def _job(raw: Mapping[str, Any]) -> Iterator[Problem]:
    job = raw.get("job") or {}
    if not _NAME.fullmatch(str(job.get("name"))):
        yield Problem("hydra.job.name", "must be a word of letters, digits, '_' and '-'", job.get("name"))
    if job.get("chdir"):
        yield Problem("hydra.job.chdir", "qexp keeps the working directory; runs_dir= says where runs go", job["chdir"])
    if raw.get("output_subdir") is not None:
        message = "must be null: config.yaml of a run lies in the run"
        yield Problem("hydra.output_subdir", message, raw["output_subdir"])
    for name in dict.fromkeys((*(job.get("env_set") or ()), *(job.get("env_copy") or ()))):
        if name not in VARIABLES:
            yield Problem(f"hydra.job.env_set.{name}", f"only these may be set: {', '.join(VARIABLES)}")


def _at(raw: Mapping[str, Any], path: str) -> Any:
    """Return the value at a dotted path, None where there is none."""
    value: Any = raw
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return value
