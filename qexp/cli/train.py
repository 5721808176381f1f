"""`qexp train`: every job checked, then carried out here or handed to a launcher of Hydra's."""

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import run_job
from rich.console import Console

from qexp import runs
from qexp.cli.board import JobLines, showing
from qexp.cli.checks import by_job, check_jobs
from qexp.cli.closing import report_run, report_sweep, say_how_it_ended, without
from qexp.cli.jobs import JobEnd, JobRecord, run_to_its_end
from qexp.cli.launch import hydra_main, job_arguments, parse_flags
from qexp.cli.option_help import help_page
from qexp.cli.progress import brief_names, plan_of
from qexp.cli.sweep import job_elsewhere, run_elsewhere
from qexp.cli.text import with_progress
from qexp.config.compose import Job, composing, is_basic_launcher, is_basic_sweeper
from qexp.config.config import Config
from qexp.config.places import store_root
from qexp.experiment.runner import FAILED
from qexp.utils.errors import Interrupted, UsageError
from qexp.utils.text import plural

if TYPE_CHECKING:  # torch takes seconds to import, and mistakes shall not wait for it
    from qexp.experiment.build import Parts


@dataclass(frozen=True)
class Command:
    """What a command line asks for: its words with Hydra's flags first, its flags, and whether it is a sweep."""

    words: Sequence[str]
    flags: Namespace
    debug: bool

    @property
    def is_sweep(self) -> bool:
        """Whether there may be several jobs."""
        return bool(self.flags.multirun)


def main(words: Sequence[str], *, debug: bool = False) -> int:
    """Check all jobs, then run them; return the exit code."""
    dry_run = "--dry-run" in words
    words = [word for word in words if word != "--dry-run"]
    flags = parse_flags(words)
    command = Command([*without(words, flags.overrides), *flags.overrides], flags, debug)
    only_tells = flags.help or flags.hydra_help or flags.info or flags.shell_completion
    has_options = bool(flags.overrides) and not flags.shell_completion  # install=bash is none
    if only_tells and not (flags.help or flags.config_dir or flags.config_name or has_options):
        return hydra_main(command.words, job_elsewhere)
    with composing(flags.config_dir, flags.config_name or "train") as composer:
        overrides, problems = composer.parse(flags.overrides)
        lists, more = composer.expand(overrides, multirun=command.is_sweep)
        jobs = [composer.job(own) for own in with_progress(lists, "reading jobs")]
        page = help_page(jobs[0], composer, flags.config_dir) if flags.help and not flags.hydra_help else None
    lines = [*map(str, (*problems, *more)), *by_job(jobs, [job.problems for job in jobs])]
    parts: list[Parts | None] = []
    if not (flags.cfg or only_tells):
        parts, wrong = check_jobs(jobs, fetch=not dry_run, wrong=bool(lines))
        lines += wrong
    if lines:
        for line in lines:
            print(f"qexp train: error: {line}", file=sys.stderr)
        return UsageError.exit_code
    if page is not None:
        print(page)
        return 0
    if flags.cfg or only_tells:
        return hydra_main(command.words, job_elsewhere)
    if dry_run:
        return _print_plan(jobs)
    if command.is_sweep and not _runs_here(jobs[0]):
        store = store_root(jobs[0].config.runs_dir if jobs[0].config else None)
        configs = [job.checked for job in jobs] if _knows_its_jobs(jobs[0]) else []
        plan = plan_of(configs) if configs else None
        records, code, stopped = run_elsewhere(command.words, store, plan, configs, debug=debug)
        return _report(command, records, len(jobs), stopped) or code
    return _run_here(command, jobs, parts, composer.loader)


def _runs_here(job: Job) -> bool:
    """Whether the jobs of a sweep are all known, and run one after another in this process."""
    return job.hydra is None or (is_basic_launcher(job.hydra) and is_basic_sweeper(job.hydra))


def _knows_its_jobs(job: Job) -> bool:
    return job.hydra is not None and is_basic_sweeper(job.hydra)


def _print_plan(jobs: Sequence[Job]) -> int:
    for job in jobs:
        if job.config is not None:
            path = runs.run_directory(job.config)
            print(f"{' '.join(job.overrides) or '(defaults)'}\n    {path}  {runs.state_of(path) or 'not run'}")
    print(f"{plural(len(jobs), 'job')}; nothing was created")
    return 0


# Jobs in this process


def _run_here(command: Command, jobs: Sequence[Job], parts: Sequence["Parts | None"], loader: ConfigLoader) -> int:
    """Carry out the jobs one after another, and report them; return the exit code; raises Interrupted."""
    records: list[JobRecord] = []
    ends: list[JobEnd] = []
    stopped: BaseException | None = None
    try:
        with _shown([job.checked for job in jobs]) if command.is_sweep else nullcontext() as shown:
            console = shown.console if shown else Console()
            for number, (job, own) in enumerate(zip(jobs, parts, strict=True)):
                if shown:
                    shown.begin(number, job.checked)
                task = partial(run_to_its_end, ends, job.checked, console, parts=own, debug=command.debug)
                with _hydras_errors_in_a_line():
                    _ = run_job(task, **job_arguments(job, loader, number if shown else None)).return_value
                end = ends[-1]
                records.append(JobRecord(number, job.overrides, end.outcome, end.code))
                if shown:
                    shown.end(end.outcome)
                    say_how_it_ended(end.outcome, console)
                stopped = end.stopped
                if stopped is not None or (end.outcome.state in FAILED and job.checked.on_error == "stop"):
                    break
    except (Interrupted, KeyboardInterrupt) as error:  # between two runs
        stopped = error
    return _report(command, records, len(jobs), stopped)


def _shown(configs: Sequence[Config]) -> AbstractContextManager[JobLines]:
    return showing(plan_of(configs), brief_names(configs))


@contextmanager
def _hydras_errors_in_a_line() -> Iterator[None]:
    """Let what Hydra's logging and callbacks raise around a job, which raises nothing itself, be one line."""
    try:
        yield
    except Interrupted:
        raise
    except Exception as error:
        raise UsageError(f"hydra: {type(error).__name__} of its logging or callbacks: {error}") from error


def _report(command: Command, records: Sequence[JobRecord], jobs: int, stopped: BaseException | None) -> int:
    """Print the closing report, and return the exit code; raise what stopped the command."""
    code = 0
    if command.is_sweep:
        code = report_sweep(records, jobs, command.words, command.flags.overrides)
    elif stopped is None:
        code = report_run(records[0])
    if stopped is not None:
        raise stopped
    return code
