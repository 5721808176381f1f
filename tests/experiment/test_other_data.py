"""A run that was begun does not go on with other data, and does not begin anew unsaid."""

from pathlib import Path

import pytest

from qexp import runs
from qexp.config.config import Config
from qexp.config.fingerprint import _of_classes
from qexp.config.yaml_files import to_yaml
from qexp.experiment.other_data import check_data_as_before, data_place
from qexp.utils.errors import UsageError
from support.commands import Configure, Qexp
from support.photographs import write_tree

WORDS = (
    "dataset=imagenet",
    "dataset.classes=3",
    "dataset.image_size=16",
    "dataset.resize=20",
    "device=cpu",
    "init=scratch",
)
SMALL = ("model=resnet18", "model.width=0.0625", "recipe.batch_size=8", "recipe.epochs=1", "workers=0", "quantizer=ste")


@pytest.fixture
def data(workspace: Path) -> Path:
    write_tree(workspace / "data" / "imagenet")
    return workspace / "data"


def begun(config: Config, state: runs.State = "interrupted") -> Path:
    path = runs.run_directory(config)
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(to_yaml(config.tree))
    runs.write_json(path / "env.json", {"data_place": data_place(config)})
    (path / "last.pt").touch()
    runs.write_status(path, state)
    return path


def change(data: Path) -> None:
    (data / "imagenet/train/n01/n01_0.JPEG").unlink()
    _of_classes.cache_clear()


def test_a_run_that_was_begun_with_other_files_is_refused(qexp: Qexp, configure: Configure, data: Path) -> None:
    path = begun(configure(*WORDS, *SMALL))
    change(data)
    result = qexp("train", *WORDS, *SMALL)
    (line,) = result.errors
    assert result.code == 2
    assert f"its files have changed since {path} was begun; put them back to resume it" in line
    assert [run.name for run in path.parent.iterdir()] == [path.name]


def test_ways_on(configure: Configure, data: Path) -> None:
    words = (*WORDS, *SMALL)
    path = begun(configure(*words))
    check_data_as_before(configure(*words))  # as they were
    kept = (data / "imagenet/train/n01/n01_0.JPEG").read_bytes()
    change(data)
    for other in ("seed=1", "recipe.epochs=2", "overwrite=true"):
        check_data_as_before(configure(*words, other))
    with pytest.raises(UsageError):
        check_data_as_before(configure(*words))
    (data / "imagenet/train/n01/n01_0.JPEG").write_bytes(kept)
    _of_classes.cache_clear()
    assert runs.run_directory(configure(*words)) == path


def test_a_finished_run_and_another_folder_are_no_reason(configure: Configure, data: Path) -> None:
    words = (*WORDS, *SMALL)
    path = begun(configure(*words))
    data.rename(data.with_name("elsewhere"))
    change(data.with_name("elsewhere"))
    check_data_as_before(configure(*words, "data_dir=elsewhere"))
    data.with_name("elsewhere").rename(data)
    with pytest.raises(UsageError):
        check_data_as_before(configure(*words))
    runs.write_status(path, "done")
    check_data_as_before(configure(*words))


def test_a_folder_that_the_environment_names_is_another_folder(
    configure: Configure, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*WORDS, *SMALL)
    begun(configure(*words))
    write_tree(Path("other/imagenet"))
    change(Path("other"))
    monkeypatch.setenv("QEXP_DATA", "other")
    check_data_as_before(configure(*words))


def test_a_run_that_does_not_tell_its_data_is_no_reason(configure: Configure, data: Path) -> None:
    """Of the version before, whose runs have other keys."""
    words = (*WORDS, *SMALL)
    path = begun(configure(*words))
    text = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text("".join(line for line in text.splitlines(True) if "digest" not in line))
    change(data)
    check_data_as_before(configure(*words))


def test_the_float_net_that_a_run_needs_is_looked_at(qexp: Qexp, configure: Configure, data: Path) -> None:
    words = tuple(word for word in (*WORDS, *SMALL) if word not in ("init=scratch", "quantizer=ste"))
    path = begun(configure(*words, "quantizer=fp"))
    change(data)
    result = qexp("train", *words, "quantizer=ste", "init=fp")
    (line,) = result.errors
    assert result.code == 2
    assert f"its files have changed since {path} was begun" in line


def test_a_run_that_has_nothing_to_resume_is_no_reason(configure: Configure, data: Path) -> None:
    """A broken image ended it, and was removed as it was told to be."""
    words = (*WORDS, *SMALL)
    path = begun(configure(*words), "failed")
    (path / "last.pt").unlink()
    change(data)
    check_data_as_before(configure(*words))
