"""How many threads a network gets, and that they wait considerately: by the configuration alone, changing no number."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from qexp.config.config import Config
from qexp.experiment import threads as module
from qexp.experiment.build import assemble
from qexp.experiment.threads import considerate_waits, set_threads, work_of_a_layer
from support.commands import Train

TASKS = Path("/proc/self/task")


@pytest.fixture(autouse=True)
def _threads_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*module.SAID_BY, *module.WAITS_SAID_BY):
        monkeypatch.delenv(name, raising=False)
    yield
    torch.set_num_threads(1)


def given(config: Config, monkeypatch: pytest.MonkeyPatch, most: int) -> int:
    monkeypatch.setattr(module, "most_threads", lambda: most)
    return set_threads(config, assemble(config))


# How many


@pytest.mark.parametrize(
    ("words", "of_2", "of_16"),
    [
        ("quantizer=daq bits=2", 1, 1),
        ("model.width=0.5", 2, 3),
        ("model.width=1", 2, 13),
        ("dataset=cifar10 model=resnet20 protocol=short", 2, 2),
        ("dataset=cifar10", 2, 16),
        ("dataset=cifar10 recipe.batch_size=2", 2, 6),
        ("dataset=imagenet", 2, 16),
    ],
)
def test_threads_follow_the_size_of_the_work(
    configure: Train, monkeypatch: pytest.MonkeyPatch, words: str, of_2: int, of_16: int
) -> None:
    config = configure(*words.split(), "device=cpu")
    assert [given(config, monkeypatch, most) for most in (1, 2, 16)] == [1, of_2, of_16]


def test_what_the_user_says_is_done(configure: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    assert given(configure("threads=3"), monkeypatch, 2) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert given(configure(), monkeypatch, 2) == 2


def test_work_is_that_of_a_batch_in_a_layer(configure: Train) -> None:
    config = configure("dataset=synthetic", "model=resnet20", "dataset.image_size=32", "recipe.batch_size=8")
    work = work_of_a_layer(config, assemble(config))
    # He et al. 2016: 40.55 million multiplications at width 1 for an image; the network has 20 layers with weights.
    width = config.width or 1
    assert work == pytest.approx(8 * 40.55e6 * width**2 / 20, rel=0.05)
    half = configure("dataset=synthetic", "model=resnet20", "dataset.image_size=32", "recipe.batch_size=4")
    assert work_of_a_layer(half, assemble(half)) == work / 2


@pytest.mark.parametrize(("text", "cores"), [("150000 100000", 2), ("50000 100000", 1), ("max 100000", 64), ("", 64)])
def test_a_container_gets_the_threads_of_its_quota(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, cores: int
) -> None:
    (tmp_path / "cpu.max").write_text(text)
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: range(64))
    assert module._cores(tmp_path / "cpu.max") == cores
    assert module._cores(tmp_path / "none") == 64


# How they wait


class Team:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    @property
    def is_held(self) -> bool:
        return self.said[-1:] == ["hold"]

    def hold(self) -> None:
        self.said.append("hold")

    def release(self) -> None:
        if self.is_held:
            self.said.append("release")


def watched(monkeypatch: pytest.MonkeyPatch, shares: list[float]) -> list[str]:
    """What the team is told while threads wait such shares of their time for a core."""
    team, clock, total = Team(), iter(range(1000)), [0.0]

    class Ended:
        def __init__(self) -> None:
            self.left = list(shares)

        def wait(self, _: float) -> bool:
            if not self.left:
                return True
            total[0] += 2 * self.left.pop(0)  # two threads, one second
            return False

    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(module, "_seconds_waited", lambda: total[0])
    module._watch(2, team, Ended())  # type: ignore[arg-type]
    return team.said


def test_waits_are_short_while_others_want_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched(monkeypatch, [0.01] * 50) == []
    assert watched(monkeypatch, [0.01, 0.05, 0.09]) == []
    assert watched(monkeypatch, [0.01, 0.3, 0.3]) == ["hold", "release"]
    assert watched(monkeypatch, [0.3, *[0.01] * 5, 0.05, *[0.01] * 5]) == ["hold", "release"], "at the end alone"
    assert watched(monkeypatch, [0.3, *[0.01] * 6, 0.3]) == ["hold", "release", "hold", "release"]


@pytest.fixture
def make_team() -> Callable[[], None]:
    torch.randn(8).sum()
    made = module._maker_of_teams(3)
    if made is None:
        pytest.skip("torch brings no GNU OpenMP here")
    return made


def eventually(count: int) -> bool:
    end = time.monotonic() + 10
    while len(list(TASKS.iterdir())) != count and time.monotonic() < end:
        time.sleep(0.01)
    return len(list(TASKS.iterdir())) == count


def test_a_sleeping_team_lives_as_long_as_it_is_held(make_team: Callable[[], None]) -> None:
    team, before = module._SleepingTeam(make_team), len(list(TASKS.iterdir()))
    for _ in range(3):
        team.hold()
        assert eventually(before + 3), "its holder and two more"
        team.release()
        assert eventually(before)
    team.release()


def test_numbers_are_the_same_beside_a_sleeping_team(make_team: Callable[[], None]) -> None:
    torch.set_num_threads(2)
    torch.manual_seed(0)
    images, weight = torch.randn(32, 16, 16, 16), torch.randn(16, 16, 3, 3)

    def outcome() -> torch.Tensor:
        own = weight.clone().requires_grad_()
        torch.nn.functional.conv2d(images, own).relu().square().mean().backward()
        return own.grad

    alone, team = outcome(), module._SleepingTeam(make_team)
    team.hold()
    assert torch.equal(outcome(), alone)
    team.release()


def test_a_watch_runs_for_several_threads_and_unless_the_user_says_how_to_wait(
    monkeypatch: pytest.MonkeyPatch, make_team: Callable[[], None]
) -> None:
    before = threading.active_count()
    with considerate_waits():
        assert threading.active_count() == before, "one thread waits for nobody"
    torch.set_num_threads(2)
    with considerate_waits():
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    with considerate_waits():
        assert threading.active_count() == before


def test_the_kernel_tells_how_long_threads_waited() -> None:
    if not any(TASKS.glob("*/schedstat")):
        pytest.skip("this kernel does not tell")
    first = module._seconds_waited()
    assert 0 <= first <= module._seconds_waited() + 1e-9
