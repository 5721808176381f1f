"""What several runs are called side by side: method, bits, seed, and what else varies among them."""

from collections.abc import Callable, Sequence

from qexp.runs.query import Entry
from qexp.runs.variation import Options, Variation, brief, variation
from qexp.utils.text import method_label, model_label


def long_names(runs: Sequence[Options]) -> list[str]:
    """Return `daq W2A2  resnet18 x0.5  seed 0  recipe.epochs=3` for each run, for a line of its own."""
    found = variation(runs)
    return [
        "  ".join([*_head(_planned(run), run, found), f"seed {run['seed']}", *_rest(run, found, str)]) for run in runs
    ]


def short_names(runs: Sequence[Options], labels: Sequence[str] | None = None) -> list[str]:
    """Return `daq W2A2 resnet18 x0.5 lr=0.01 seed 0` for each run, for a legend, in whose order seeds are neighbours.

    An option is called by as many of its last words as tell it from the others that vary.

    Args:
        runs: their options.
        labels: `daq W2A2` of each, by its result where it has one; None for what the options say.
    """
    found = variation(runs)
    labels = [_planned(run) for run in runs] if labels is None else labels
    words = {key: _last_words(key, found.options) for key in found.options}
    return [
        " ".join([*_head(label, run, found), *_rest(run, found, words.get), f"seed {run['seed']}"])
        for label, run in zip(labels, runs, strict=True)
    ]


def known_options(entry: Entry, options: Options) -> Options:
    """Return the options of a run, with what its path tells where its configuration is damaged."""
    method, _, bits = entry.method.rpartition("-")
    weight, _, activation = bits.removeprefix("w").partition("a")
    told = {"dataset": entry.dataset, "model": entry.model, "quantizer": method or bits, "seed": entry.seed}
    return {**told, "weight_bits": weight or "?", "activation_bits": activation or "?", **options}


def _planned(run: Options) -> str:
    return method_label(str(run["quantizer"]), run["weight_bits"], run["activation_bits"], run.get("layer_bits"))


def _head(label: str, run: Options, found: Variation) -> list[str]:
    words = [label]
    if {"model", "model.width"} & set(found.names):
        words.append(model_label(str(run["model"]), run.get("model.width")))
    return [*words, f"on {run['dataset']}"] if "dataset" in found.names else words


def _rest(run: Options, found: Variation, called: Callable[[str], str | None]) -> list[str]:
    protocol = [f"protocol {run['protocol']}"] if "protocol" in found.names and "protocol" in run else []
    return [*protocol, *(f"{called(key)}={brief(run[key])}" for key in found.options if key in run)]


def _last_words(key: str, keys: Sequence[str]) -> str:
    """Return the end of a dotted key that no other of `keys` has: `lr`, or `weight.lr` beside `norm.lr`."""
    parts = key.split(".")
    for count in range(1, len(parts)):
        end = ".".join(parts[-count:])
        if not any(other != key and (other == end or other.endswith(f".{end}")) for other in keys):
            return end
    return key
