"""Any command line at all is answered by a plan, or by lines that say what is wrong with it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import configuration, example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from qexp.config.compose import Composer, composing
from qexp.config.plugins import plugin_problems
from qexp.config.schema import Invalid, Problem, convert_value
from qexp.utils.text import UNFIT, one_line
from qexp.utils.types import Count, Fraction, NonNegative, NonNegativeInt, Positive, Range
from support.overrides import KEYS, VALID, VALUES, override_strings, verdict

pytestmark = pytest.mark.thorough

configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "hypothesis")  # not ./.hypothesis
CASES, SLICES = 48, 2
SETTINGS = hypothesis.settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=30,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
MANY = hypothesis.settings(SETTINGS, max_examples=400)


@pytest.mark.parametrize("part", range(SLICES))
def test_a_command_line_ends_in_a_plan_or_in_clean_lines(workspace: Path, part: int) -> None:
    """scripts/faults tries thousands; `python tests/support/overrides.py SEED COUNT` as many as you like."""
    wrong = [(words, bad) for words in override_strings(part, CASES // SLICES) if (bad := verdict(words))]
    assert wrong == []


def test_command_lines_are_a_function_of_the_seed_and_of_many_kinds() -> None:
    first = list(override_strings(0, 300))
    assert first == list(override_strings(0, 300))
    assert first != list(override_strings(1, 300))
    text = " ".join(word for words in first for word in words)
    for part in ("-m", "hydra.", "${", "range(", "[[", "\x00", "数", "x" * 300, "quantizer=", "\n"):
        assert part in text


# The check in front of Hydra


COMPOSERS: list[Composer] = []


@pytest.fixture(autouse=True)
def known() -> Iterator[Any]:
    """The tree of `qexp train`; Hydra starts once for all examples of a property."""
    with composing() as composer:
        COMPOSERS.append(composer)
        yield OmegaConf.create(dict(composer.job(()).tree))
        COMPOSERS.pop()


def answer(words: list[str], *, multirun: bool = False) -> tuple[list[Any], list[Problem]]:
    """The jobs of a command and all that the check in front of Hydra finds wrong."""
    composer = COMPOSERS[-1]
    overrides, problems = composer.parse(words)
    lists, more = composer.expand(overrides, multirun=multirun)
    jobs = [composer.job(job) for job in lists]
    return jobs, [*problems, *more, *(problem for job in jobs for problem in job.problems)]


def fits(problem: Problem) -> bool:
    line = str(problem)
    return len(line) < 1000 and not UNFIT.search(line) and bool(problem.message)


@SETTINGS
@given(st.lists(st.text(), max_size=3), st.booleans())
@example(["seed=${seed}"], False)
@example(["a=" + "[" * 1000], False)
@example(["seed=range(1e300)"], True)
@example(["\ud800=\x00"], True)
def test_any_text_is_a_job_or_a_problem(words: list[str], multirun: bool) -> None:
    jobs, problems = answer(words, multirun=multirun)
    assert all(map(fits, problems))
    assert problems or all(job.config for job in jobs)


@SETTINGS
@given(st.sampled_from(KEYS), st.one_of(st.sampled_from(VALUES), st.integers(), st.floats(), st.text(max_size=20)))
def test_any_value_of_a_real_key_is_a_job_or_a_problem(key: str, value: object) -> None:
    jobs, problems = answer([f"{key}={value}"])
    assert all(map(fits, problems))
    assert problems or all(job.config for job in jobs)


@SETTINGS
@given(st.lists(st.sampled_from(VALID), max_size=6, unique_by=lambda word: word.partition("=")[0]))
def test_valid_overrides_survive(words: list[str]) -> None:
    """Each has its value in the tree, whatever stands beside it and in whatever order."""
    (job,), problems = answer(words)
    assert [str(problem) for problem in problems if "dataset.mean" not in str(problem)] == []
    for word in words:
        key, _, value = word.partition("=")
        found = OmegaConf.select(OmegaConf.create(job.tree), key)
        if OmegaConf.is_dict(found):  # a group
            assert key == "recipe" or found.name == value
        else:
            assert found == OmegaConf.create(f"x: {value}").x


@SETTINGS
@given(st.from_regex(r"[a-z]{1,12}(\.[a-z]{1,8}){0,2}", fullmatch=True), st.sampled_from(("", "+", "++")))
@example("recipe.epoch", "")
@example("hydrax", "++")
def test_an_unknown_key_is_always_refused(known: Any, key: str, prefix: str) -> None:
    hypothesis.assume(OmegaConf.select(known, key) is None)
    hypothesis.assume(key.split(".")[0] not in ("hydra", "data_dir", "runs_dir"))
    _, problems = answer([f"{prefix}{key}=1"])
    assert any(problem.key.startswith(key.split(".")[0]) for problem in problems)


def converted(value: Any, hint: Any) -> tuple[Any, list[Problem]]:
    try:
        return convert_value(value, hint, "key"), []
    except Invalid as error:
        return None, error.problems


NUMBERS = (Count, NonNegativeInt, Positive, NonNegative, Fraction)
PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=5,
)


@MANY
@given(PLAIN, st.sampled_from(NUMBERS))
@example(10**400, Positive)
@example(2**63, Count)
@example(True, Count)
@example(-0.0, Positive)
def test_a_number_that_is_accepted_lies_in_its_range(value: Any, hint: Any) -> None:
    kind, range_ = hint.__origin__, hint.__metadata__[0]
    assert isinstance(range_, Range)
    found, problems = converted(value, hint)
    if problems:
        assert all(map(fits, problems))
        return
    assert type(found) is kind
    assert found == value
    assert range_.low <= found <= range_.high
    assert found > range_.above
    assert abs(found) < 2**63 or kind is float


@MANY
@given(PLAIN, st.sampled_from((str, bool, tuple[Fraction, ...], dict[str, NonNegative], str | None, list[str])))
def test_what_is_accepted_is_what_was_given(value: Any, hint: Any) -> None:
    found, problems = converted(value, hint)
    if problems:
        assert all(map(fits, problems))
        return
    assert (list(found) if isinstance(found, tuple) else found) == value
    assert not isinstance(found, str) or not UNFIT.search(found)


@MANY
@given(st.text(), st.integers(10, 300))
def test_one_line_is_one_short_line(text: str, most: int) -> None:
    line = one_line(text, most)
    assert len(line) <= most
    assert len(line.splitlines()) <= 1
    assert line.isprintable()
    assert line == text or not text.isprintable() or len(text) > most


TARGETS = st.from_regex(r"(hydra_plugins|hydra|logging|os|builtins|colorlog)(\.[a-zA-Z_]{1,9}){0,3}", fullmatch=True)


@SETTINGS
@given(TARGETS, st.sampled_from(("callbacks.x._target_", "job_logging.handlers.x.()", "launcher._target_")))
@example("os.system", "callbacks.x._target_")
@example("logging.os.system", "job_logging.handlers.x.()")
@example("hydra_plugins.hydra_joblib_launcher._core.Path", "launcher._target_")
@example("hydra._internal.core_plugins.basic_launcher.Path", "launcher._target_")
def test_hydra_makes_nothing_but_its_own(target: str, key: str) -> None:
    """Classes of logging are: they are what handlers are made of."""
    node = OmegaConf.create(
        {name: {} for name in ("launcher", "sweeper", "callbacks", "job_logging", "hydra_logging")} | {"verbose": False}
    )
    *groups, last = key.split(".")
    inner = node
    for group in groups:
        inner[group] = inner.get(group, {})
        inner = inner[group]
    inner[last] = target
    refused = [problem for problem in plugin_problems(node) if problem.key == f"hydra.{key}"]
    assert refused or (key.startswith("job_logging") and target.split(".")[-1][:1].isupper())
