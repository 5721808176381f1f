"""What is wrong with the jobs of a command, all of it, in one line each, before anything is created."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qexp.cli.text import with_progress
from qexp.config.compose import Job
from qexp.config.config import Config, parse_config
from qexp.config.schema import Invalid, Problem
from qexp.config.sections import SECTIONS, parse_sections

if TYPE_CHECKING:  # torch takes seconds to import, and mistakes shall not wait for it
    from qexp.experiment.build import Parts


def check_jobs(jobs: Sequence[Job], *, fetch: bool, wrong: bool) -> tuple[list["Parts | None"], list[str]]:
    """Check the parts of every job; return the parts of each, and one line per problem.

    The parts import torch, which takes seconds: that is spared where no job can have a mistake in its parts besides
    what is wrong already.
    """
    if wrong and not any(job.config or _checks_parts(job) for job in jobs):
        return [], []
    from qexp.experiment.preflight import Trials, check, check_sections

    trials: Trials = {}
    parts: list[Parts | None] = []
    found: list[Sequence[Problem]] = []
    known: dict[str, tuple[Parts | None, Sequence[Problem]]] = {}
    for job in with_progress(jobs, "checking jobs"):
        config = job.config or _without_start(job)
        if config is None:
            parts.append(None)
            found.append(check_sections(parse_sections(job.tree)[0]) if job.tree else ())
            continue
        key = _checked_by(config)
        if key not in known:
            try:
                known[key] = check(config, fetch=fetch, trials=trials), ()
            except Invalid as error:
                known[key] = None, error.problems
        parts.append(known[key][0])
        found.append(known[key][1])
    return parts, by_job(jobs, found)


def _checks_parts(job: Job) -> bool:
    """Whether more can be wrong with a job that has problems already: only its start is missing, or it sets options."""
    prefixes = tuple(f"{section}." for section in SECTIONS)
    return _without_start(job) is not None or any(word.lstrip("+").startswith(prefixes) for word in job.overrides)


def _without_start(job: Job) -> Config | None:
    """Return the configuration of a job that only lacks the checkpoint it begins with, to check all the rest."""
    if (
        job.config is not None
        or not job.tree
        or any(problem.key.partition("=")[0] != "init" for problem in job.problems)
    ):
        return None
    try:
        return parse_config({**job.tree, "init": "scratch"})
    except Invalid:
        return None


def _checked_by(config: Config) -> str:
    """Return all of a configuration that the check looks at."""
    parts = (config.dataset, config.model, config.quantizer, config.weight_bits, config.activation_bits)
    start = (config.init, config.device, config.data_dir, config.runs_dir)
    recipe = config.recipe
    batches = (recipe.crop, recipe.randaugment, recipe.batch_size, recipe.accumulate, recipe.holdout, recipe.patience)
    others = (recipe.dampening, recipe.freezing, recipe.augment, recipe.schedule)
    return repr((*parts, config.keep_float, config.layer_bits, *start, *batches, *others))


def by_job(jobs: Sequence[Job], problems: Sequence[Sequence[Problem]]) -> list[str]:
    """Return every different problem once, with the first job that has it where there are several jobs."""
    lines: dict[str, str] = {}
    for number, (job, own) in enumerate(zip(jobs, problems, strict=True), start=1):
        where = f"  [job {number} of {len(jobs)}: {' '.join(job.overrides)}]" if len(jobs) > 1 else ""
        for problem in own:
            lines.setdefault(str(problem), f"{problem}{where}")
    return list(lines.values())
