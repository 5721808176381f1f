"""Networks from files (torch.save, safetensors): read without running code, compared key by key."""

import re
import warnings
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from qexp.engine import pickles
from qexp.utils.errors import UsageError
from qexp.utils.text import few, kind_of_value, one_line

SAFETENSORS = ".safetensors"
WRAPPERS = ("module.", "_orig_mod.")  # what DataParallel and torch.compile put before the names of a network


def load_file(path: Path) -> Any:
    """Return what is in a file: tensors by name if it is called *.safetensors, else what `torch.save` wrote.

    No pickled code is run, and a wrong bit is noticed: torch itself does not look at the checksums of its archive.

    Raises:
        UsageError: no such file, a damaged one, or more in it than tensors and plain values.
    """
    try:
        if path.exists() and not path.is_file():
            raise UsageError(f"{path} is no regular file")
        if zipfile.is_zipfile(path):
            check_archive(path)
        if path.suffix == SAFETENSORS:
            return _load_safetensors(path)
        if reason := pickles.too_much(path):
            raise UsageError(f"{path} is not a checkpoint that can be loaded safely: {reason}")
        with warnings.catch_warnings(action="ignore"):  # on files that torch did not write; the error says it all
            return torch.load(path, map_location="cpu", weights_only=True)
    except UsageError:
        raise
    except FileNotFoundError:
        raise UsageError(f"no checkpoint at {path}") from None
    except Exception as error:
        raise UsageError(f"{path} is not a checkpoint that can be loaded safely: {_reason(error)}") from error


def check_archive(path: Path) -> None:
    """Check an archive of `torch.save`, whose parts are as they are in memory.

    Raises:
        UsageError: it is damaged, or claims to hold more than its file does.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            is_packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
            if is_packed or sum(part.file_size for part in parts) > path.stat().st_size:
                raise UsageError(f"{path} is damaged: torch.save did not write it, which does not compress")
            broken = archive.testzip()
    except (OSError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else "it is cut short or overwritten"
        raise UsageError(f"{path} is damaged: {reason}") from error
    if broken is not None:
        raise UsageError(f"{path} is damaged: the checksum of {broken} is wrong")


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file as load
    except ImportError as error:
        raise UsageError(f"{path}: needs safetensors (pip install safetensors)") from error
    tensors: dict[str, Tensor] = load(path, device="cpu")
    return tensors


def _reason(error: Exception) -> str:
    """Return one line without torch's advice to load the file unsafely."""
    text = str(error).strip()
    if named := re.search(r"GLOBAL (\S+)", text):
        return f"besides tensors and plain values it holds {named[1]}, which loading would have to call"
    if isinstance(error, OSError | RuntimeError) and text:
        return text.splitlines()[0].partition(". ")[0][:120]
    if type(error).__name__ == "SafetensorError":
        return f"it is damaged, or was cut short ({text.splitlines()[0].rpartition(': ')[2][:120]})"
    return "torch.save did not write it, or it was cut short"


class Network(NamedTuple):
    """What a checkpoint holds of a network.

    Attributes:
        state: its state dict.
        codes: those that its quantized weights had where it was saved: packed, None without a record.
        run: what the run that saved it computes, None without a record.
    """

    state: dict[str, Tensor]
    codes: dict[str, Tensor] | None
    run: Mapping[str, Any] | None


def load_network(path: Path) -> Network:
    """Return the network in a checkpoint.

    Raises:
        UsageError: no such file, or not a checkpoint.
    """
    content = load_file(path)
    state = content.get("model", content.get("state_dict", content)) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not is_state(state):
        raise UsageError(f"{path}: holds no state dict of tensors{_what_instead(content)}")
    run = content.get("run")
    return Network(state, recorded_codes(content), run if isinstance(run, dict) else None)


def _what_instead(content: Any) -> str:
    """Return what a file holds that is no checkpoint, and what to do where it has a state dict under another name."""
    if not isinstance(content, dict) or not content:
        return f", but {'an empty dict' if content == {} else kind_of_value(content)}"
    shown = {key: one_line(str(key), 40) for key in content}
    if wrapped := [shown[key] for key, value in content.items() if is_state(value)]:
        return (
            f" itself, or under 'model' or 'state_dict'; it has {few(shown.values(), 8)}: write what is under "
            f"'{wrapped[0]}' to a file of its own"
        )
    others = [shown[item[0]] for item in content.items() if not _is_named_tensor(item)]
    return f"; what is no tensor with a name and values: {few(others, 8)}"


def named_as(names: Collection[str], state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return a state dict without what DataParallel and torch.compile put before all names, where a network has none.

    Args:
        names: of the network's own state dict, which may have a part that is called `module`.
        state: has names to compare with those.
    """
    before, own = _put_before(state), _put_before(names)
    if before == own or not before.endswith(own):
        return state
    cut = len(before) - len(own)
    return {key[cut:]: value for key, value in state.items()}


def _put_before(names: Collection[str]) -> str:
    """Return the longest chain of prefixes of wrappers that all names begin with."""
    found, more = "", WRAPPERS if names else ()
    while word := next((one for one in more if all(name.startswith(found + one) for name in names)), ""):
        found += word
    return found


def recorded_codes(content: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """Return the codes in the content of a checkpoint, packed; None without a record, or with a damaged one."""
    codes = content.get("codes")
    if not isinstance(codes, dict) or not is_state(codes):
        return None
    return codes if all(own.dtype == torch.uint8 for own in codes.values()) else None


def load_state(path: Path) -> dict[str, Tensor]:
    """Return the state dict in a checkpoint; raises as `load_network`."""
    return load_network(path).state


def is_state(value: Any) -> bool:
    """Whether a value is a state dict: tensors by their names."""
    return isinstance(value, dict) and bool(value) and all(map(_is_named_tensor, value.items()))


def _is_named_tensor(item: tuple[Any, Any]) -> bool:
    """Whether this is a name and a tensor with a value for every entry."""
    key, value = item
    if not isinstance(key, str) or not isinstance(value, Tensor):
        return False
    return value.layout == torch.strided and not (value.is_meta or value.is_quantized or value.is_complex())


def check_finite(state: Mapping[str, Tensor], source: str) -> None:
    """Raise UsageError that names the tensors of `state` in which a value is infinite or not a number."""
    bad = [
        key for key, value in state.items() if value.is_floating_point() and not bool(value.float().isfinite().all())
    ]
    if bad:
        raise UsageError(f"{source}: cannot be a start, with infinite values or NaN in {few(sorted(bad))}")


def holds_quantizers(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is that of a quantized network with parameters of its own."""
    return any("quantizer." in key or key.endswith("output_scale") for key in state)


def load_into(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load `state` strictly.

    Raises:
        UsageError: keys or shapes that differ, named.
    """
    check_fits(model, state, source)
    whole = model.state_dict()  # with the versions of its layers, without which MNASNet takes any weights for old ones
    whole.update(state)
    model.load_state_dict(whole, strict=True)


def check_fits(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Raise UsageError that names the keys, shapes and types in which `state` differs from those of `model`."""
    own = model.state_dict()
    problems = key_differences({key: value.shape for key, value in own.items()}, state)
    if not problems:  # torch would take integers, such as the codes of another program, for weights
        integers = [key for key in own if own[key].is_floating_point() and not state[key].is_floating_point()]
        problems = f"integers instead of floats: {few(sorted(integers))}" if integers else ""
    if problems:
        raise UsageError(f"{source}: does not fit this network; {problems}")


def key_differences(expected: Mapping[str, Sequence[int]], found: Mapping[str, Tensor]) -> str:
    """Return in one line the keys and shapes in which `found` differs from {key: shape}; empty where it does not."""
    shapes = [
        f"{key} {tuple(found[key].shape)} instead of {tuple(expected[key])}"
        for key in expected.keys() & found.keys()
        if tuple(found[key].shape) != tuple(expected[key])
    ]
    missing, unexpected = expected.keys() - found.keys(), found.keys() - expected.keys()
    parts = (("missing", missing), ("unexpected", unexpected), ("other shapes", shapes))
    return "; ".join(f"{title}: {few(sorted(keys))}" for title, keys in parts if keys)
