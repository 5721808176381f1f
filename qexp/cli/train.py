"""`qexp train`: a check of every job in front of Hydra's own main."""

import os
import shlex
import signal
import sys
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from qexp import runs
from qexp.cli.closing import percent, run_report, sweep_table
from qexp.cli.sweep import FAILED, Exchange, Record, again, exchange, in_progress, summary_line
from qexp.config.compose import Job, compose_job, composing, expand, parse_overrides
from qexp.config.config import SECTIONS, Config, conf_dir, parse_config, parse_sections
from qexp.config.schema import Invalid, Problem
from qexp.experiment.runner import Outcome, identified, perform
from qexp.utils.errors import Diverged, Interrupted, QexpError, UsageError
from qexp.utils.signals import StopRequest, ask_to_stop, handling, say, stop_number

DEBUG, MAIN = "QEXP_DEBUG", "QEXP_MAIN"  # seen by jobs in other processes: show tracebacks; the command's own process

REFUSED = {
    "config_path": "qexp has its own configuration; --config-dir adds a folder to it",
    "experimental_rerun": "would run what is pickled in the file; the command of a run repeats it",
}


def main(words: Sequence[str], *, debug: bool = False) -> int:
    """Check all jobs, then let Hydra run them; return the exit code."""
    dry_run = "--dry-run" in words
    words = [word for word in words if word != "--dry-run"]
    arguments = _flags(words)
    words = [*_without(words, arguments.overrides), *arguments.overrides]  # Hydra wants its flags first
    only_tells = arguments.help or arguments.hydra_help or arguments.info or arguments.shell_completion
    if only_tells and not (arguments.config_dir or arguments.config_name):
        return _hydra(words)
    jobs, problems = plan(arguments)  # also before Hydra tells of files of somebody else's
    if not (arguments.cfg or only_tells):
        problems += inspect(jobs, fetch=not dry_run, wrong=bool(problems))
    if problems:
        for line in problems:
            print(f"qexp train: error: {line}", file=sys.stderr)
        return UsageError.exit_code
    if arguments.cfg or only_tells:
        return _hydra(words)
    if dry_run:
        return _print_plan(jobs)
    os.environ[DEBUG], os.environ[MAIN] = "1" if debug else "", str(os.getpid())
    return _run(words, arguments, jobs)


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
    for name, why in REFUSED.items():
        if getattr(arguments, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')}: {why}")
    for name in ("config_dir", "config_name"):
        if getattr(arguments, name) == "":
            raise UsageError(f"--{name.replace('_', '-')}: names nothing")
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
    from qexp.experiment.build import check, check_sections

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


def _run(words: Sequence[str], arguments: Namespace, jobs: Sequence[Job]) -> int:
    """Let Hydra run the jobs, then report what they left; return the exit code.

    Raises:
        Interrupted: a signal asked for it.
    """
    store = runs.store_root(jobs[0].config.runs_dir if jobs[0].config else None)
    launchers = [word.partition("=")[2] for word in arguments.overrides if word.startswith("hydra/launcher=")]
    with exchange(store) as shared, handling(partial(_on_signal, shared, launchers not in ([], ["basic"]))):
        stopped: BaseException | None = None
        try:
            code = _hydra(words)
        except (Interrupted, KeyboardInterrupt) as error:
            code, stopped = 0, error
        records = shared.records()
        number = stop_number(shared.stop_file)
        if stopped is None and number is not None:
            stopped = Interrupted(number)
        if arguments.multirun:
            code = _report_sweep(records, words, arguments, jobs) or code
        elif stopped is None:
            code = _report_run(records[0]) if records else code or QexpError.exit_code
        if stopped is not None:
            raise stopped
        return code


def _on_signal(shared: Exchange, is_parallel: bool, number: int, frame: FrameType | None) -> None:
    """Pass a signal on to jobs in other processes; a run in this process has a handler of its own."""
    if not is_parallel:
        raise Interrupted(number)
    if stop_number(shared.stop_file) is not None:
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        return
    try:
        ask_to_stop(shared.stop_file, number)
    except OSError:  # a full disk: the jobs cannot be asked
        raise Interrupted(number) from None
    say(f"\n{signal.Signals(number).name}: the running jobs save their state and stop; Ctrl-C again does not wait\n")


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
    settings, shared = HydraConfig.get(), in_progress()
    is_sweep = settings.mode == RunMode.MULTIRUN
    if is_sweep and shared.is_halted:
        return float("nan")
    # Jobs that a launcher runs side by side share the terminal: a progress bar each would overwrite the others.
    is_alone = os.getpid() == int(os.environ[MAIN])
    console = Console() if is_alone else Console(force_terminal=False, width=160)
    code, stopped = 0, None
    try:
        outcome = perform(config, console, debug=bool(os.environ.get(DEBUG)), stop=StopRequest(shared.stop_file))
    except QexpError as error:
        outcome, code = Outcome("failed", str(_directory(config)), message=str(error)), error.exit_code
    except (Interrupted, KeyboardInterrupt) as error:
        outcome, stopped = _stopped(_directory(config), error), error
    record = Record(settings.job.num if is_sweep else 0, tuple(settings.overrides.task), outcome, code)
    _leave(record, shared, console, is_sweep=is_sweep)
    if outcome.state in FAILED and config.on_error == "stop":
        shared.halt()
    if stopped is not None and is_alone:
        raise stopped
    if not is_alone:
        # A process that waits for its next job shall not die of a Ctrl-C that the running ones have to heed.
        signal.signal(signal.SIGINT, lambda *_: None)
    return outcome.summary["top1_hard"] if outcome.summary else float("nan")


def _directory(config: Config) -> Path:
    """Return the directory of a run, also where the checkpoint that it begins with is gone by now."""
    try:
        return runs.run_directory(identified(config))
    except QexpError:
        return runs.run_directory(config)


def _stopped(path: Path, error: BaseException) -> Outcome:
    summary = runs.read_summary(path)  # the signal may have come after the last step
    return Outcome("done" if summary else "interrupted", str(path), summary, str(error))


def _leave(record: Record, shared: Exchange, console: Console, *, is_sweep: bool) -> None:
    """Record how a job ended, and in a sweep say so now."""
    outcome = record.outcome
    try:
        shared.put(record)
    except QexpError as error:  # a full disk: this line and the exit code are all that can be left
        print(f"qexp train: error: {outcome.message or error}  ({outcome.path})", file=sys.stderr, flush=True)
        return
    if not is_sweep:
        return
    if outcome.state in FAILED:
        print(f"qexp train: {outcome.state}: {outcome.message}  ({_where(outcome)})", file=sys.stderr, flush=True)
    else:
        said = f"top-1 {percent(outcome.summary['top1_hard'])}" if outcome.summary else outcome.message
        console.print(f"{outcome.state}: {said}  {outcome.path}", highlight=False, markup=False, soft_wrap=True)


def _where(outcome: Outcome) -> str:
    """Return the file that holds the whole error, or the run's directory where there is none."""
    file = Path(outcome.path) / "error.txt"
    return str(file if file.is_file() else file.parent)


def _report_sweep(records: Sequence[Record], words: Sequence[str], arguments: Namespace, jobs: Sequence[Job]) -> int:
    """Print the closing report of a sweep and return the exit code."""
    outcomes = [record.outcome for record in records]
    if outcomes:
        Console(width=None if sys.stdout.isatty() else 160).print(sweep_table(outcomes))
    if any(outcome.summary and outcome.summary["unsettled"] for outcome in outcomes):
        print("* some attention did not end at the lowest bit-width; the run's own report names where")
    print(summary_line(records, len(jobs)))
    failed = [record for record in records if record.outcome.state in FAILED]
    if not failed:
        return 3 if len(records) < len(jobs) else 0
    for record in failed:
        print(f"  {record.outcome.state}: {' '.join(record.overrides)}  ({_where(record.outcome)})")
    flags = _without(words, [*arguments.overrides, *(word for word in words if word in ("-m", "--multirun"))])
    print(f"again, without those that are done: {shlex.join(['qexp', 'train', *again(words, flags, records)])}")
    return 3


def _report_run(record: Record) -> int:
    """Print the closing report of a single run and return the exit code."""
    outcome = record.outcome
    if outcome.state == "skipped":
        print(f"already done, nothing to train (overwrite=true repeats it): {outcome.path}")
    if outcome.state == "elsewhere":
        print(f"skipped: {outcome.message}")
    if outcome.summary:
        print(run_report(outcome))
    if outcome.state not in FAILED:
        return 0
    file = _where(outcome)
    details = f"  (see {file})" if file.endswith("error.txt") else ""
    print(f"qexp train: error: {outcome.message}{details}", file=sys.stderr)
    return record.code or (Diverged.exit_code if outcome.state == "diverged" else QexpError.exit_code)
