"""`qexp train`: a check of every job in front of Hydra's own main."""

import os
import shutil
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from qexp import runs
from qexp.compose import Job, compose_job, composing, expand, parse_overrides
from qexp.config import SECTIONS, conf_dir, parse_config, parse_sections
from qexp.errors import Diverged, QexpError, UsageError
from qexp.lifecycle import Outcome, identified, perform
from qexp.report import percent, run_report, sweep_table
from qexp.schema import Invalid, Problem

DEBUG = "QEXP_DEBUG"  # seen by jobs in other processes
SCRATCH = "QEXP_SCRATCH"


def main(words: Sequence[str], *, debug: bool = False) -> int:
    """Check all jobs, then let Hydra run them; return the exit code."""
    dry_run = "--dry-run" in words
    words = [word for word in words if word != "--dry-run"]
    arguments = _flags(words)
    words = [*_without(words, arguments.overrides), *arguments.overrides]  # Hydra wants its flags first
    if arguments.help or arguments.hydra_help or arguments.info or arguments.shell_completion:
        return _hydra(words)
    jobs, problems = plan(arguments)
    if not arguments.cfg:
        problems += inspect(jobs, fetch=not dry_run, wrong=bool(problems))
    if problems:
        for line in problems:
            print(f"qexp train: error: {line}", file=sys.stderr)
        return UsageError.exit_code
    if arguments.cfg:
        return _hydra(words)
    if dry_run:
        return _print_plan(jobs)
    os.environ[DEBUG] = "1" if debug else ""
    return _run(words, jobs, multirun=arguments.multirun)


def _flags(words: Sequence[str]) -> Namespace:
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
    arguments.multirun = arguments.multirun or "hydra.mode=MULTIRUN" in arguments.overrides
    return arguments


def _without(words: Sequence[str], removed: Sequence[str]) -> list[str]:
    rest = list(words)
    for word in removed:
        rest.remove(word)
    return rest


def plan(arguments: Namespace) -> tuple[list[Job], list[str]]:
    """Compose every job; return them and one line per problem."""
    name, folder = arguments.config_name or "train", arguments.config_dir
    with composing(folder):
        overrides, problems = parse_overrides(arguments.overrides)
        lists, more = expand(overrides, multirun=arguments.multirun, config_name=name)
        jobs = [compose_job(words, name) for words in lists]
    lines = [str(problem) for problem in (*problems, *more)]
    return jobs, lines + _by_job(jobs, [job.problems for job in jobs])


def inspect(jobs: Sequence[Job], *, fetch: bool, wrong: bool) -> list[str]:
    """Check the parts of every job; return one line per problem.

    The parts import torch, which takes seconds: that is spared where no job can have a mistake in its parts besides
    what is wrong already.
    """
    if wrong and not any(job.config or _sets_options(job) for job in jobs):
        return []
    from qexp.assemble import check, check_sections

    found: list[Sequence[Problem]] = []
    known: dict[str, Sequence[Problem]] = {}
    for job in jobs:
        config = job.config
        if config is None:
            found.append(check_sections(parse_sections(job.raw)[0]) if job.raw else ())
            continue
        parts = (config.dataset, config.model, config.quantizer, config.weight_bits, config.activation_bits)
        start = (config.init, config.device, config.data_dir, config.runs_dir)
        batches = (config.recipe.crop, config.recipe.batch_size, config.recipe.accumulate)
        key = repr((*parts, config.keep_float, *start, *batches))
        if key not in known:
            try:
                check(config, fetch=fetch)
                known[key] = ()
            except Invalid as error:
                known[key] = error.problems
        found.append(known[key])
    return _by_job(jobs, found)


def _sets_options(job: Job) -> bool:
    """Whether an override sets an option of a dataset, model or quantizer."""
    return any(word.lstrip("+").startswith(tuple(f"{section}." for section in SECTIONS)) for word in job.overrides)


def _by_job(jobs: Sequence[Job], problems: Sequence[Sequence[Problem]]) -> list[str]:
    """Return every different problem once, with the first job that has it where there are several jobs."""
    lines: dict[str, str] = {}
    for number, (job, own) in enumerate(zip(jobs, problems, strict=True), start=1):
        where = f"  [job {number} of {len(jobs)}: {' '.join(job.overrides)}]" if len(jobs) > 1 else ""
        for problem in own:
            lines.setdefault(str(problem), f"{problem}{where}")
    return list(lines.values())


def _print_plan(jobs: Sequence[Job]) -> int:
    for job in jobs:
        if job.config is not None:
            path = runs.run_directory(identified(job.config))
            print(f"{' '.join(job.overrides) or '(defaults)'}\n    {path}  {runs.state_of(path) or 'not run'}")
    print(f"{len(jobs)} job{'' if len(jobs) == 1 else 's'}; nothing was created")
    return 0


def _run(words: Sequence[str], jobs: Sequence[Job], *, multirun: bool) -> int:
    """Run Hydra with a scratch directory of its own, then report what its jobs left there."""
    store = runs.store_root(jobs[0].config.runs_dir if jobs[0].config else None)
    scratch = store.resolve() / ".jobs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    try:
        scratch.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"cannot write the run store {store}: {os.strerror(error.errno or 0)}") from error
    os.environ[SCRATCH] = str(scratch)
    code = 1
    try:
        code = _hydra(words)
        outcomes = [
            Outcome(**found) for path in sorted(scratch.glob("outcome-*.json")) if (found := runs.read_json(path))
        ]
        code = _report(outcomes, multirun=multirun) or code or (0 if outcomes else 1)
    finally:
        if code == 0 or not multirun:  # a launcher's own logs explain a failure
            shutil.rmtree(scratch, ignore_errors=True)
            if not any(scratch.parent.iterdir()):
                scratch.parent.rmdir()
    return code


def _hydra(words: Sequence[str]) -> int:
    sys.argv = ["qexp train", *words]
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(job)()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    return 0


def job(tree: DictConfig) -> float:
    """Carry out one job inside Hydra, in whatever process its launcher chose; return hard top-1 for sweepers."""
    raw: Any = OmegaConf.to_container(tree, resolve=True)
    config = parse_config(raw)
    settings = HydraConfig.get()
    is_sweep = settings.mode == RunMode.MULTIRUN
    # Jobs that a launcher runs side by side share the terminal: a progress bar each would overwrite the others.
    alone = not is_sweep or settings.launcher._target_.endswith("BasicLauncher")
    console = Console() if alone else Console(force_terminal=False, width=160)
    try:
        outcome = perform(config, console, debug=bool(os.environ.get(DEBUG)))
    except QexpError as error:
        outcome = Outcome("failed", str(runs.run_directory(config)), message=str(error))
    number = settings.job.num if is_sweep else 0
    try:
        runs.write_json(Path(os.environ[SCRATCH]) / f"outcome-{number:05d}.json", outcome.as_dict())
    except OSError as error:  # a full disk: this line and the exit code are all that can be left
        print(f"qexp train: error: {outcome.message or error}  ({outcome.path})", file=sys.stderr)
    if is_sweep:
        console.print(_one_line(outcome), highlight=False, soft_wrap=True)
    return outcome.summary["top1_hard"] if outcome.summary else float("nan")


def _one_line(outcome: Outcome) -> str:
    if outcome.summary is None:
        return f"{outcome.state}: {outcome.message}  {outcome.path}"
    return f"{outcome.state}: top-1 {percent(outcome.summary['top1_hard'])}  {outcome.path}"


def _report(outcomes: Sequence[Outcome], *, multirun: bool) -> int:
    """Print the closing report and return the exit code."""
    failed = [outcome for outcome in outcomes if outcome.state in ("failed", "diverged")]
    if multirun:
        Console(width=None if sys.stdout.isatty() else 160).print(sweep_table(outcomes))
        if any(outcome.summary and outcome.summary["unsettled"] for outcome in outcomes):
            print("* some attention did not end at the lowest bit-width; the run's own report names where")
        for outcome in failed:
            print(f"qexp train: {outcome.state}: {outcome.message}  ({outcome.path})", file=sys.stderr)
        return 3 if failed else 0
    for outcome in outcomes:
        if outcome.state == "skipped":
            print(f"already done, nothing to train (overwrite=true repeats it): {outcome.path}")
        if outcome.state == "elsewhere":
            print(f"skipped: {outcome.message}")
        if outcome.summary:
            print(run_report(outcome))
        if outcome in failed:
            print(f"qexp train: error: {outcome.message}  (see {outcome.path}/error.txt)", file=sys.stderr)
    if failed:
        return Diverged.exit_code if failed[0].state == "diverged" else QexpError.exit_code
    return 0
