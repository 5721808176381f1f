"""The schema: a typed signature accepts what fits, and says exactly what does not."""

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest

from qexp.config.schema import Invalid, convert_value, options, parse
from qexp.utils.text import suggest
from qexp.utils.types import Count, Fraction, NonNegative, NonNegativeInt, Positive, Range


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: NonNegative
    name: Literal["sgd", "adam"]


@dataclass(frozen=True, kw_only=True)
class Options:
    count: Count
    start: NonNegativeInt
    width: Positive
    share: Fraction
    flag: bool
    word: str
    bits: Literal[1, 2, 32]
    size: Count | None
    either: int | str
    places: tuple[Fraction, ...]
    names: list[str]
    rates: dict[str, NonNegative]
    inner: Inner
    anything: Any
    derived: int = field(init=False, default=0)


GOOD: dict[str, Any] = {
    "count": 3,
    "start": 0,
    "width": 2,
    "share": 1,
    "flag": False,
    "word": "one",
    "bits": 32,
    "size": None,
    "either": "all",
    "places": [0.25, 1],
    "names": ["a", "b"],
    "rates": {"weight": 0, "norm": 0.5},
    "inner": {"rate": 1, "name": "sgd"},
    "anything": {"of": "any kind"},
}


def problems_of(**changes: Any) -> list[str]:
    """Every problem of the good options with some changed."""
    with pytest.raises(Invalid) as caught:
        parse(Options, {**GOOD, **changes}, "group")
    return [str(problem) for problem in caught.value.problems]


def test_good_values_take_their_annotated_types() -> None:
    values = parse(Options, GOOD)
    assert values == {**GOOD, "places": (0.25, 1.0), "inner": Inner(rate=1.0, name="sgd")}
    assert [type(values[name]) for name in ("count", "width", "share", "flag", "bits")] == [
        int,
        float,
        float,
        bool,
        int,
    ]
    assert [type(value) for value in values["places"]] == [float, float]
    assert [type(value) for value in values["rates"].values()] == [float, float]
    assert Options(**values).inner == Inner(rate=1.0, name="sgd")


WRONG: list[tuple[str, Any, str]] = [
    # type
    ("count", "three", "group.count=three: expected an integer"),
    ("count", "3", "group.count=3: expected an integer"),
    ("count", 3.0, "group.count=3.0: expected an integer"),
    ("count", True, "group.count=true: expected an integer"),
    ("count", None, "group.count=null: expected an integer"),
    ("width", "wide", "group.width=wide: expected a number"),
    ("width", "0.5", "group.width=0.5: expected a number"),
    ("width", True, "group.width=True: expected a number"),
    ("width", [1.0], "group.width=[1.0]: expected a number"),
    ("flag", 1, "group.flag=1: expected true or false"),
    ("flag", "true", "group.flag=true: expected true or false"),
    ("flag", None, "group.flag=null: expected true or false"),
    ("word", 5, "group.word=5: expected a word"),
    ("word", False, "group.word=False: expected a word"),
    # range
    ("count", 0, "group.count=0: must be at least 1"),
    ("start", -1, "group.start=-1: must be at least 0"),
    ("width", 0, "group.width=0.0: must be greater than 0"),
    ("share", 1.5, "group.share=1.5: must be at most 1"),
    ("share", -0.5, "group.share=-0.5: must be at least 0"),
    ("width", math.nan, "group.width=nan: must be a finite number"),
    ("width", math.inf, "group.width=inf: must be a finite number"),
    ("share", -math.inf, "group.share=-inf: must be a finite number"),
    # choice
    ("bits", 3, "group.bits=3: must be one of 1, 2, 32"),
    ("bits", "two", "group.bits=two: must be one of 1, 2, 32"),
    ("bits", "2", "group.bits=2: must be one of 1, 2, 32"),
    ("bits", 13, "group.bits=13: must be one of 1, 2, 32"),
    ("bits", True, "group.bits=True: must be one of 1, 2, 32"),
    ("bits", 2.0, "group.bits=2.0: must be one of 1, 2, 32"),
    ("bits", None, "group.bits: must be one of 1, 2, 32"),
    ("bits", [1], "group.bits=[1]: must be one of 1, 2, 32"),
    # none or
    ("size", 0, "group.size=0: must be at least 1"),
    ("size", "all", "group.size=all: expected an integer"),
    # either
    ("either", 1.5, "group.either=1.5: expected an integer"),
    # lists
    ("names", "a", "group.names=a: expected a list, such as [a,b]"),
    ("names", None, "group.names: expected a list, such as [a,b]"),
    ("names", {"a": 1}, "group.names={'a': 1}: expected a list, such as [a,b]"),
    ("names", ["a", 2], "group.names[1]=2: expected a word"),
    ("places", [0.5, 2], "group.places[1]=2.0: must be at most 1"),
    # groups
    ("rates", 0.1, "group.rates=0.1: expected a group of options"),
    ("rates", {"weight": -1}, "group.rates.weight=-1.0: must be at least 0"),
    ("inner", "sgd", "group.inner=sgd: expected a group of options"),
    ("inner", None, "group.inner: expected a group of options"),
    ("inner", {"rate": -1, "name": "sgd"}, "group.inner.rate=-1.0: must be at least 0"),
    ("inner", {"rate": 1, "name": "sdg"}, "group.inner.name=sdg: must be one of sgd, adam (did you mean 'sgd'?)"),
    ("inner", {"rate": 1}, "group.inner.name: missing option"),
    # names
    ("cuont", 3, "group.cuont=3: unknown option (did you mean 'count'?)"),
    ("derived", 3, "group.derived=3: unknown option"),
]


@pytest.mark.parametrize(("key", "value", "expected"), WRONG, ids=[f"{key}={value}" for key, value, _ in WRONG])
def test_a_wrong_value_is_named_with_its_place_and_what_would_be_right(key: str, value: Any, expected: str) -> None:
    (problem,) = problems_of(**{key: value})
    assert problem.startswith(expected) if key == "derived" else problem == expected


def test_a_name_like_no_other_is_answered_with_all_names() -> None:
    (problem,) = problems_of(zzz=1)
    assert problem.startswith("group.zzz=1: unknown option; options here: anything, bits, count, either, flag")


def test_all_problems_are_reported_at_once() -> None:
    assert problems_of(
        count=0,
        flag="yes",
        wrod="x",
        places=[2, 0.5, -1],
        rates={"weight": -1, "norm": "fast"},
        inner={"rate": "x", "naem": "sgd"},
    ) == [
        "group.count=0: must be at least 1",
        "group.flag=yes: expected true or false",
        "group.places[0]=2.0: must be at most 1",
        "group.places[2]=-1.0: must be at least 0",
        "group.rates.weight=-1.0: must be at least 0",
        "group.rates.norm=fast: expected a number",
        "group.inner.rate=x: expected a number",
        "group.inner.naem=sgd: unknown option (did you mean 'name'?)",
        "group.inner.name: missing option",
        "group.wrod=x: unknown option (did you mean 'word'?)",
    ]


def test_every_missing_option_is_named() -> None:
    with pytest.raises(Invalid) as caught:
        parse(Options, {})
    assert [str(problem) for problem in caught.value.problems] == [f"{name}: missing option" for name in GOOD]


def test_the_error_text_joins_the_problems() -> None:
    with pytest.raises(Invalid, match=r"^a=1: unknown option; options here: momentum, rate; rate: missing option$"):
        parse(rated, {"a": 1})


def rated(channels: int, *, rate: float, momentum: Annotated[float, Range(high=0.9)] = 0.5) -> None:
    """A function with one positional parameter and two options."""


class Rated:
    def __init__(self, channels: int, *, rate: float):
        self.rate = rate


def test_options_are_keyword_only_parameters_or_fields_of_a_dataclass() -> None:
    assert {name: required for name, (_, required) in options(rated).items()} == {"rate": True, "momentum": False}
    assert list(options(Rated)) == ["rate"]
    assert list(options(Options)) == list(GOOD)


def test_an_option_with_a_default_may_be_left_out_and_is_checked_where_given() -> None:
    assert parse(rated, {"rate": 1}) == {"rate": 1.0}
    with pytest.raises(Invalid, match="momentum=0.95: must be at most 0.9"):
        parse(rated, {"rate": 1, "momentum": 0.95})


def test_whole_numbers_become_floats_exactly() -> None:
    value = convert_value(3, float, "x")
    assert (value, type(value)) == (3.0, float)


@pytest.mark.parametrize(
    ("word", "expected"), [("quantiser", " (did you mean 'quantizer'?)"), ("dqq", " (did you mean 'dqa'?)"), ("x", "")]
)
def test_suggest_offers_the_nearest_word_or_nothing(word: str, expected: str) -> None:
    assert suggest(word, ["quantizer", "dqa", "model"]) == expected
