"""The weights that torchvision and timm publish for their networks: which there are, and where their files lie."""

import hashlib
import importlib
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from torchvision import models

from qexp.models.library_networks import check_network_name, import_timm
from qexp.models.pretrained import Weights, fetch_weights
from qexp.utils.errors import UsageError
from qexp.utils.text import few, suggest

DEFAULT = "default"  # the word for those that a library itself takes
HUB_FILE = "model.safetensors"  # of timm's repositories on the Hugging Face Hub
_SHA256 = re.compile(r"[0-9a-f]{64}")
_OPTION = "model.pretrained"


class Published(NamedTuple):
    """Weights that a library publishes.

    Attributes:
        name: says which they are, whatever the library may call its default later; of torchvision with the beginning
            of the file's SHA-256.
        fetch: returns the file, downloaded if need be and asked for (`download`), else None; raises UsageError.
    """

    name: str
    fetch: Callable[..., Path | None]


def published_weights(library: str, network: str, word: str) -> Published:
    """Return the weights of a network that a word names: `default`, or the library's name of a set.

    Raises:
        UsageError: no such network or weights, or no timm.
    """
    check_network_name(library, network)
    return (_of_torchvision if library == "torchvision" else _of_timm)(network, word)


def _of_torchvision(network: str, word: str) -> Published:
    sets = models.get_model_weights(network)
    name = word.upper() if word == DEFAULT else word
    if name not in sets.__members__:
        raise _unknown("torchvision", network, word, [one.name for one in sets])
    weights = Weights(partial(models.get_model, network), sets[name].url)
    fetch = partial(fetch_weights, weights, f"{_OPTION}={word}", _OPTION)
    return Published(PurePosixPath(weights.url).stem, fetch)


def _of_timm(network: str, word: str) -> Published:
    timm = import_timm()
    tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{network}.*")]
    usual = timm.get_pretrained_cfg(network)
    tag = usual.tag if word == DEFAULT and usual is not None else word
    if tag not in tags:
        raise _unknown("timm", network, word, tags)
    found = timm.get_pretrained_cfg(f"{network}.{tag}")
    if not found.hf_hub_id:
        where = f" but at {found.url}" if found.url else ""
        advice = f"download them, and name the file by {_OPTION}=PATH"
        raise UsageError(f"{_OPTION}={word}: these weights are not on the Hugging Face Hub{where}; {advice}")
    return Published(found.hf_hub_id, partial(_fetch_from_hub, found.hf_hub_id, word))


def _unknown(library: str, network: str, word: str, known: list[str]) -> UsageError:
    listed = f"{DEFAULT}, {few(known, 8)}" if known else "none"
    hint = suggest(word, [DEFAULT, *known])
    there_are = f"{library} has {listed} for {network}" if known else f"{library} publishes none for {network}"
    paths = "a path has a / in it, or ends in .pt, .pth or .safetensors"
    return UsageError(f"{_OPTION}={word}: no such weights{hint}; {there_are}; {paths}")


def _fetch_from_hub(repository: str, word: str, *, download: bool) -> Path | None:
    """Return the file of a repository, which huggingface_hub keeps under the name of its SHA-256."""
    hub = importlib.import_module("huggingface_hub")
    try:
        path = Path(hub.hf_hub_download(repository, HUB_FILE, local_files_only=True))
    except Exception:  # of several libraries, by way of this one
        if not download:
            return None
        try:
            hub.get_hf_file_metadata(hub.hf_hub_url(repository, HUB_FILE))  # fails at once, without retries
            path = Path(hub.hf_hub_download(repository, HUB_FILE))
        except Exception as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise UsageError(
                f"{_OPTION}={word}: {repository} is not in the cache of huggingface_hub, and its download failed "
                f"({reason}); name a copy of its {HUB_FILE} by {_OPTION}=PATH"
            ) from error
    expected = path.resolve().name
    with path.open("rb") as file:
        if _SHA256.fullmatch(expected) and hashlib.file_digest(file, "sha256").hexdigest() != expected:
            raise UsageError(f"{_OPTION}={word}: {path.resolve()} is damaged; delete it")
    return path
