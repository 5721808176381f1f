"""Weights that libraries publish: which a word names, and where the file comes from."""

import enum
import hashlib
import re
import urllib.error
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torchvision

from qexp.models.library_networks import network_names
from qexp.models.library_weights import HUB_FILE, published_weights
from qexp.utils.errors import UsageError

CONTENT = b"not really weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def test_every_set_of_torchvision_has_a_name_with_a_hash() -> None:
    for network in network_names("torchvision"):
        sets = torchvision.models.get_model_weights(network)
        names = {one.name: published_weights("torchvision", network, one.name).name for one in sets}
        assert all(re.search(r"-[0-9a-f]{8,}$", name) for name in names.values())
        assert len(set(names.values())) == len(names)
        if names:
            assert published_weights("torchvision", network, "default").name == names[sets.DEFAULT.name]


def test_the_default_of_timm_is_one_of_its_tags() -> None:
    default = published_weights("timm", "resnet18", "default").name
    assert default == published_weights("timm", "resnet18", "a1_in1k").name == "timm/resnet18.a1_in1k"
    assert published_weights("timm", "resnet18", "tv_in1k").name == "timm/resnet18.tv_in1k"


@pytest.mark.parametrize(
    ("library", "network", "word", "said"),
    [
        ("torchvision", "resnet50", "IMAGENET1K_V3", "did you mean 'IMAGENET1K_V"),
        (
            "torchvision",
            "resnet50",
            "IMAGENET1K_V3",
            "has default, IMAGENET1K_V1, IMAGENET1K_V2 for resnet50",
        ),
        ("torchvision", "resnet50", "defualt", "did you mean 'default'?"),
        ("timm", "resnet18", "a1_in1", "did you mean 'a1_in1k'?"),
        ("timm", "resnet18", "weights", "a path has a / in it, or ends in .pt, .pth or .safetensors"),
        ("timm", "resnet9x", "default", "model.network=resnet9x: timm has no such"),
        ("timm", "gcvit_tiny", "default", "not on the Hugging Face Hub but at https://github.com"),
    ],
)
def test_a_word_that_names_none_is_told_what_there_is(library: str, network: str, word: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        published_weights(library, network, word)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let torchvision publish a file of some bytes for every network; return where it is kept, not there yet."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    address = f"https://models.invalid/net-{SHA256[:8]}.pth"

    class Sets(enum.Enum):
        IMAGENET1K_V1 = address
        DEFAULT = IMAGENET1K_V1

        @property
        def url(self) -> str:
            return self.value

    monkeypatch.setattr(torchvision.models, "get_model_weights", lambda _: Sets)
    return tmp_path / "torch" / "hub" / "checkpoints" / f"net-{SHA256[:8]}.pth"


def test_a_file_of_torchvision_is_taken_from_its_cache_and_checked(sets: Path) -> None:
    found = published_weights("torchvision", "resnet18", "default")
    assert found.name == f"net-{SHA256[:8]}"
    assert found.fetch(download=False) is None
    sets.parent.mkdir(parents=True)
    sets.write_bytes(CONTENT)
    assert found.fetch(download=True) == sets
    sets.write_bytes(CONTENT + b"!")
    with pytest.raises(UsageError, match=r"^model\.pretrained=default: .* is damaged, or not from torchvision; delete"):
        found.fetch(download=False)


def test_offline_one_line_says_what_to_put_where(sets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    with pytest.raises(UsageError) as caught:
        published_weights("torchvision", "resnet18", "default").fetch(download=True)
    line = str(caught.value)
    assert line.startswith(f"model.pretrained=default: {sets} is not there, and the download of https://models.invalid")
    assert line.endswith("put the file there, or name a copy of it by model.pretrained=PATH")
    assert not sets.parent.parent.parent.exists()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A cache and a hub in a dictionary: `cached` and `online` are files, `asked` what was asked for."""
    state: dict[str, Any] = {"cached": None, "online": None, "asked": []}

    def download(repository: str, name: str, *, local_files_only: bool = False) -> str:
        state["asked"].append((repository, name, local_files_only))
        if (found := state["cached"] if local_files_only else state["online"]) is None:
            raise OSError("not there\nand more")
        return str(found)

    def metadata(url: str) -> None:
        state["asked"].append(url)
        if state["online"] is None:
            raise ConnectionError("no network\nat all")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", metadata)
    return state


def blob(folder: Path, name: str) -> Path:
    """A file under the name that huggingface_hub shows, which leads to one under another name."""
    folder.mkdir()
    (folder / name).write_bytes(CONTENT)
    (folder / HUB_FILE).symlink_to(folder / name)
    return folder / HUB_FILE


def test_a_file_of_timm_comes_from_the_cache_or_the_hub(tmp_path: Path, hub: dict[str, Any]) -> None:
    found = published_weights("timm", "resnet18", "a1_in1k")
    assert found.fetch(download=False) is None
    assert hub["asked"] == [("timm/resnet18.a1_in1k", "model.safetensors", True)]
    hub["online"] = blob(tmp_path / "online", SHA256)
    assert found.fetch(download=True) == hub["online"]
    hub["cached"] = blob(tmp_path / "cached", SHA256)
    hub["asked"].clear()
    assert found.fetch(download=True) == hub["cached"]
    assert len(hub["asked"]) == 1
    hub["cached"] = blob(tmp_path / "damaged", "0" * 64)
    with pytest.raises(UsageError, match=r"is damaged; delete it$"):
        found.fetch(download=True)


def test_without_the_hub_it_is_one_line_at_once(hub: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        published_weights("timm", "resnet18", "default").fetch(download=True)
    assert str(caught.value) == (
        "model.pretrained=default: timm/resnet18.a1_in1k is not in the cache of huggingface_hub, and its download "
        "failed (no network); name a copy of its model.safetensors by model.pretrained=PATH"
    )
    assert [asked[2] for asked in hub["asked"] if isinstance(asked, tuple)] == [True]  # no retries of a download
