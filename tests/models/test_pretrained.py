"""`init=torchvision`: which networks have weights, where the file is, and what is refused."""

import hashlib
import io
import socket
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from qexp.config.config import recorded_config
from qexp.models import pretrained
from qexp.models.mobilenet import mobilenetv2
from qexp.models.resnet import resnet18, resnet34
from qexp.models.resnet_cifar import resnet20
from qexp.utils.errors import UsageError

pytestmark = pytest.mark.thorough

BUILD = {"mobilenetv2": mobilenetv2, "resnet18": resnet18, "resnet34": resnet34}
URL = "https://models.invalid/weights"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where torchvision would look for files: empty, and not even made yet."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture(autouse=True)
def requests(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """Let every connection fail; the list collects the socket timeouts that were set then."""
    timeouts: list[float | None] = []

    def refuse(*_: Any, **__: Any) -> None:
        timeouts.append(socket.getdefaulttimeout())
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    return timeouts


@pytest.fixture(scope="module")
def published() -> tuple[bytes, dict[str, Tensor]]:
    """A file of weights as torchvision's, and what it holds: weights from before torch 0.4.1, without counters."""
    torch.manual_seed(5)
    model = torchvision.models.mobilenet_v2()
    state = {key: value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue(), state


@pytest.fixture
def weights(published: tuple[bytes, dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch) -> pretrained.Weights:
    """Let that file be torchvision's for MobileNetV2."""
    url = f"{URL}/mobilenet_v2-{hashlib.sha256(published[0]).hexdigest()[:8]}.pth"
    entry = pretrained.Weights(torchvision.models.mobilenet_v2, url)
    monkeypatch.setitem(pretrained.WEIGHTS, "mobilenetv2", entry)
    return entry


@pytest.fixture
def cached(weights: pretrained.Weights, published: tuple[bytes, dict[str, Tensor]]) -> Path:
    """Put the file where it would have been downloaded to."""
    weights.file.parent.mkdir(parents=True)
    weights.file.write_bytes(published[0])
    return weights.file


# Which networks


@pytest.mark.parametrize(("name", "top1"), [("resnet18", 69.758), ("resnet34", 73.314), ("mobilenetv2", 71.878)])
def test_the_weights_are_those_with_the_accuracy_that_torchvision_states(name: str, top1: float) -> None:
    found = [
        weights
        for model in ("resnet18", "resnet34", "mobilenet_v2")
        for weights in torchvision.models.get_model_weights(model)
        if weights.url == pretrained.WEIGHTS[name].url
    ]
    assert [weights.meta["_metrics"]["ImageNet-1K"]["acc@1"] for weights in found] == [top1]
    assert f"{top1} %" in " ".join(str(pretrained.__doc__).split())


@pytest.mark.parametrize("name", sorted(pretrained.WEIGHTS))
def test_our_network_for_imagenet_is_torchvisions(name: str) -> None:
    for image_size in (65, 224):
        pretrained.check_same(name, lambda: BUILD[name](1000, 3, image_size))  # noqa: B023
    with torch.device("meta"):
        ours, theirs = BUILD[name](1000, 3, 224), pretrained.WEIGHTS[name].build()
    assert ours.state_dict().keys() == theirs.state_dict().keys()


@pytest.mark.parametrize(
    ("name", "shape", "width", "named"),
    [
        ("resnet18", (10, 3, 224), 1.0, "fc is Linear(in_features=512, out_features=10"),
        ("resnet18", (1000, 1, 224), 1.0, "conv1 is Conv2d(1, 64, kernel_size=(7, 7)"),
        ("resnet18", (1000, 3, 64), 1.0, "conv1 is Conv2d(3, 64, kernel_size=(3, 3)"),
        ("resnet34", (1000, 3, 224), 0.25, "conv1 is Conv2d(3, 16, kernel_size=(7, 7)"),
        # Its weights would have the right shapes.
        ("mobilenetv2", (1000, 3, 64), 1.0, "features.0.0 is Conv2d(3, 32, kernel_size=(3, 3), stride=(1, 1)"),
    ],
)
def test_another_network_is_refused_with_what_differs(
    name: str, shape: tuple[int, int, int], width: float, named: str, requests: list
) -> None:
    with pytest.raises(UsageError) as caught:
        pretrained.check_same(name, lambda: BUILD[name](*shape, width=width))
    line = str(caught.value)
    needs = "1000 classes, 3 channels, images above 64 pixels and model.width=1"
    assert line.startswith(f"init=torchvision: its {name} is for {needs}; here {named}")
    assert " instead of " in line
    assert "\n" not in line
    assert requests == []


def test_resnet18_is_not_resnet34() -> None:
    with pytest.raises(UsageError, match=r"here layer1.2.conv1 is missing instead of Conv2d\(64, 64"):
        pretrained.check_same("resnet34", lambda: resnet18(1000, 3, 224))
    with pytest.raises(UsageError, match=r"here layer1.2.conv1 is Conv2d\(64, 64.* instead of missing"):
        pretrained.check_same("resnet18", lambda: resnet34(1000, 3, 224))


def test_a_model_that_torchvision_does_not_have_is_refused() -> None:
    listed = "mobilenetv2, resnet18, resnet34"
    message = f"init=torchvision: there are no weights for model=resnet20; there are some for {listed}"
    for action in (
        lambda: pretrained.check_same("resnet20", lambda: resnet20(10, 3, 32)),
        lambda: pretrained.fetch("resnet20"),
    ):
        with pytest.raises(UsageError) as caught:
            action()
        assert str(caught.value) == message


# The file


def test_the_file_is_where_torchvision_keeps_it(cache: Path) -> None:
    weights = pretrained.WEIGHTS["resnet18"]
    assert weights.file == cache / "resnet18-f37072fd.pth"
    assert weights.digest == "f37072fd"


def test_a_file_that_is_there_is_used_without_a_network(cached: Path, requests: list) -> None:
    assert pretrained.fetch("mobilenetv2") == cached
    assert requests == []


def test_a_file_that_is_not_what_its_name_says_is_refused(cached: Path) -> None:
    """torchvision would take it; the key of a run with init=torchvision says that it is the published file."""
    cached.write_bytes(cached.read_bytes()[:-1])
    with pytest.raises(UsageError) as caught:
        pretrained.fetch("mobilenetv2")
    assert str(caught.value) == f"init=torchvision: {cached} is damaged, or not from torchvision; delete it"


def serve(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    class Response(io.BytesIO):
        def info(self) -> Any:
            return {}

    Response.info = lambda self: type("Headers", (), {"get_all": lambda *_: [str(len(content))]})()  # type: ignore
    monkeypatch.setattr("torch.hub.urlopen", lambda *_, **__: Response(content))


def test_a_missing_file_is_downloaded_and_checked(
    weights: pretrained.Weights, published: tuple[bytes, Any], monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    serve(monkeypatch, published[0])
    path = pretrained.fetch("mobilenetv2")
    assert path == weights.file
    assert path.read_bytes() == published[0]
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert capfd.readouterr() == ("", "")


def assert_nothing_is_left(cache: Path) -> None:
    assert not cache.parent.parent.exists()
    assert socket.getdefaulttimeout() is None


def test_a_download_of_something_else_is_refused(
    weights: pretrained.Weights, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, b"<html>please log in</html>")
    with pytest.raises(UsageError, match="invalid hash value"):
        pretrained.fetch("mobilenetv2")
    assert_nothing_is_left(cache)


def test_offline_says_what_to_put_where(weights: pretrained.Weights, cache: Path, requests: list) -> None:
    with pytest.raises(UsageError) as caught:
        pretrained.fetch("mobilenetv2")
    line = str(caught.value)
    assert line.startswith(f"init=torchvision: {weights.file} is not there, and the download of {weights.url} failed (")
    assert "no network" in line
    assert line.endswith("put the file there, or name a copy of it by init=PATH")
    assert "\n" not in line
    assert requests == [30.0]
    assert_nothing_is_left(cache)


def test_a_failed_download_keeps_what_was_there(weights: pretrained.Weights, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "other.pth").write_bytes(b"x")
    with pytest.raises(UsageError):
        pretrained.fetch("mobilenetv2")
    assert [entry.name for entry in cache.iterdir()] == ["other.pth"]


def test_without_a_download_a_missing_file_is_no_error_yet(cache: Path, requests: list) -> None:
    assert pretrained.fetch("mobilenetv2", download=False) is None
    assert requests == []
    assert_nothing_is_left(cache)


# From the command line

COMMAND = (
    "model=mobilenetv2",
    "model.width=1",
    "init=torchvision",
    "dataset.classes=1000",
    "dataset.image_size=65",
    "dataset.train_size=2",
    "dataset.test_size=2",
    "recipe.batch_size=2",
)
FROZEN = ("recipe.optimizer.weight.lr=0", "recipe.optimizer.norm.lr=0")


def final(path: Path) -> dict[str, Tensor]:
    return torch.load(path / "last.pt", weights_only=True)["model"]


@pytest.mark.training
@pytest.mark.parametrize(("method", "bits"), [("fp", "w32a32"), ("ste", "w4a4")])
def test_a_run_starts_from_the_file(
    train: Callable[..., Any], only_run: Callable[..., Path], cached: Path, published: Any, method: str, bits: str
) -> None:
    result = train(*COMMAND, *FROZEN, f"quantizer={method}", *(["bits=4"] if method == "ste" else []))
    assert (result.code, result.err) == (0, "")
    state = final(only_run(f"{method}-{bits}"))
    expected = {key: value for key, value in published[1].items() if "running" not in key}
    assert expected.keys() < state.keys()
    assert all(torch.equal(state[key], value) for key, value in expected.items())


def test_the_key_says_torchvision_and_does_not_depend_on_the_machine(
    train: Callable[..., Any], configure: Callable[..., Any], cached: Path, tmp_path: Path
) -> None:
    words = ("dataset=imagenet", "model=resnet18", "quantizer=fp", "init=torchvision")
    config = configure(*words)
    assert config.tree["init"] == "torchvision"
    assert config.key not in (configure(*words[:-1]).key, recorded_config({**config.tree, "init": "resnet18"}).key)
    plan = train(*COMMAND, "quantizer=fp", "--dry-run").out
    cached.unlink()
    assert train(*COMMAND, "quantizer=fp", "--dry-run").out == plan


@pytest.mark.training
def test_the_published_file_can_also_be_named(
    train: Callable[..., Any], only_run: Callable[..., Path], cached: Path, published: Any, tmp_path: Path
) -> None:
    """As the message of a failed download says; it is another run, because its key follows from the content."""
    copy = cached.rename(tmp_path / "mine.pth")
    result = train(*COMMAND, *FROZEN, "quantizer=fp", f"init={copy}")
    assert (result.code, result.err) == (0, "")
    state = final(only_run("fp"))
    assert torch.equal(state["features.0.0.weight"], published[1]["features.0.0.weight"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "is not there, and the download of "),
        (("model.width=0.5",), "its mobilenetv2 is for 1000 classes"),
        (("dataset.classes=10",), "its mobilenetv2 is for 1000 classes"),
        (("model=resnet20",), "there are no weights for model=resnet20"),
    ],
)
def test_mistakes_end_in_one_line_before_anything_is_created(
    train: Callable[..., Any], words: tuple[str, ...], message: str, cache: Path
) -> None:
    for method in ("fp", "ste"):
        result = train(*COMMAND, *words, f"quantizer={method}")
        assert (result.code, result.out) == (2, "")
        (line,) = result.errors
        assert line.startswith(f"qexp train: error: init=torchvision: {message}" if words else "qexp train: error: ")
        assert message in line
        assert list(Path().iterdir()) == []
        assert_nothing_is_left(cache)


def test_a_network_of_ones_own_is_compared_layer_by_layer() -> None:
    """Layers without parameters take no part: dropout and activations carry no weights."""
    theirs = torchvision.models.mobilenet_v2
    pretrained.check_same("mobilenetv2", lambda: theirs(dropout=0.7))

    def dilated() -> nn.Module:
        model = theirs()
        model.features[18][0].dilation = (2, 2)
        return model

    with pytest.raises(UsageError, match=r"features.18.0 is Conv2d.*dilation=\(2, 2\).* instead of Conv2d"):
        pretrained.check_same("mobilenetv2", dilated)
