"""The bridge to Hydra: its flags, its own main, and what it needs to carry out a job that was composed already."""

import re
import sys
import warnings
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import hydra
from hydra._internal.callbacks import Callbacks  # Hydra has no public way to these two
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from qexp.config.compose import Job
from qexp.config.explain import COMPOSITION_ERRORS, explain
from qexp.config.places import conf_dir
from qexp.utils.errors import UsageError
from qexp.utils.text import one_line

REFUSED = {
    "config_path": "qexp has its own configuration; --config-dir adds a folder to it",
    "experimental_rerun": "would run what is pickled in the file; the command of a run repeats it",
}
COMPLETION = re.compile(r"(install|uninstall|query)=(bash|fish|zsh)")


def parse_flags(words: Sequence[str]) -> Namespace:
    """Return Hydra's flags and the overrides; raise UsageError for a flag that is none."""
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        hint = ""
        if "unrecognized arguments: --" in message:
            flag = message.partition(": --")[2].split()[0]
            hint = f"; options have no dashes: {flag.partition('=')[0]}=VALUE"
        raise UsageError(f"{message}{hint} (qexp train --help)")

    parser.error = refuse  # type: ignore[method-assign]
    arguments = parser.parse_intermixed_args(list(words))
    for name, why in REFUSED.items():
        if getattr(arguments, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')}: {why}")
    for name in ("config_dir", "config_name"):
        if getattr(arguments, name) == "":
            raise UsageError(f"--{name.replace('_', '-')}: names nothing")
    if arguments.shell_completion and not (
        len(arguments.overrides) == 1 and COMPLETION.fullmatch(arguments.overrides[0])
    ):
        raise UsageError("--shell-completion: takes one word, such as install=bash, uninstall=fish or query=zsh")
    arguments.multirun = arguments.multirun or "hydra.mode=MULTIRUN" in arguments.overrides
    return arguments


def hydra_main(words: Sequence[str], task: Callable[[DictConfig], float]) -> int:
    """Let Hydra's own main do what the words say, and return its exit code.

    Raises:
        UsageError: what it composes for an answer, such as --hydra-help without the primary file, lacks an option.
    """
    sys.argv = ["qexp train", *words]
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn_in_a_line
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(task)()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except COMPOSITION_ERRORS as error:
        raise UsageError(": ".join(explain(error))) from error
    return 0


def _warn_in_a_line(message: Warning | str, *_: object, **__: object) -> None:
    """Show a warning without the line of code that it comes from."""
    print(f"qexp train: warning: {one_line(str(message), 300)}", file=sys.stderr)


def job_arguments(job: Job, loader: ConfigLoader, number: int | None) -> dict[str, Any]:
    """Return what `hydra.core.utils.run_job` needs beside the task: Hydra carries out a job that it need not compose.

    Logging, callbacks and all else that Hydra gives to its jobs are those of the job's own options.

    Args:
        job: checked, without problems.
        loader: what composed it.
        number: of the job in a sweep, from 0; None for a job that is alone.
    """
    config = OmegaConf.create({**job.tree, "hydra": job.hydra})
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.overrides.task = list(job.overrides)
        if number is not None:
            config.hydra.mode, config.hydra.job.id, config.hydra.job.num = RunMode.MULTIRUN, str(number), number
    return {
        "config": config,
        "job_dir_key": "hydra.run.dir" if number is None else "hydra.sweep.dir",
        "job_subdir_key": None,
        "hydra_context": HydraContext(config_loader=loader, callbacks=Callbacks(config)),
    }
