"""`qexp models`: the networks there are, how large they are, and which of their layers are quantized."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qexp.cli.parser import Parser
from qexp.cli.text import grid, make_console, named_rows
from qexp.config.compose import Composer, composing
from qexp.config.config import Config
from qexp.config.fingerprint import library_of
from qexp.config.identity import LIBRARIES
from qexp.config.schema import Invalid
from qexp.utils.errors import UsageError
from qexp.utils.text import plural, suggest

if TYPE_CHECKING:
    from torch import nn

    from qexp.quantizers import Coverage

USAGE = "qexp models [NAME [key=value ...]] [--coverage] [--config-dir DIR]"
EXAMPLES = """\
qexp models                                      all of them, for the images of dataset=digits
qexp models resnet20 dataset=cifar10             one of them, for other images
qexp models mobilenetv2 --coverage bits=4        which of its layers are quantized, to what, and why others are not
qexp models resnet20 --coverage 'layer_bits=["layer1.*:4"]'
"""


def main(words: Sequence[str], *, debug: bool = False) -> int:
    """Print a list, or what is known of one network; return the exit code."""
    parser = Parser("qexp models", "List the networks, or show one of them.", usage=USAGE, epilog=EXAMPLES)
    parser.add_argument("words", nargs="*", metavar="NAME", help="a network, and key=value as for qexp train")
    parser.add_argument("--coverage", action="store_true", help="what is quantized, what stays float, and why")
    parser.add_argument("--config-dir", metavar="DIR", help="a folder with models of your own")
    arguments = parser.parse(words)
    with composing(arguments.config_dir) as composer:
        names = composer.choices("model")
        if not arguments.words:
            if arguments.coverage:
                raise UsageError("--coverage needs the name of a model (qexp models lists them)")
            print(_listed(composer, names))
            return 0
        name, *overrides = arguments.words
        if name not in names:
            raise UsageError(f"no model '{name}'{suggest(name, names)}; there are {', '.join(names)}")
        print(_shown(_composed(composer, name, overrides), with_layers=arguments.coverage))
    return 0


def _composed(composer: Composer, name: str, words: Sequence[str]) -> Config:
    job = composer.job((f"model={name}", *words))
    if job.config is None:
        raise UsageError("; ".join(map(str, job.problems)))
    return job.config


def _listed(composer: Composer, names: Sequence[str]) -> str:
    rows = []
    for name in names:
        try:
            network, coverage = _built(_composed(composer, name, ()))
        except UsageError as error:  # one that cannot be made is no reason to hide the others
            rows.append((name, "-", str(error).partition(": ")[2]))
            continue
        count = sum(parameter.numel() for parameter in network.parameters())
        rows.append((name, f"{len(coverage.layers)}", f"{count:,}"))
    listed = grid(("model", "layers", "parameters"), rows, ("layers", "parameters"))
    libraries = [name for name in names if name in LIBRARIES]
    more = f"{' and '.join(libraries)} stand for many networks: model.network=NAME (qexp models NAME lists them)"
    return f"{listed}\n{more}" if libraries else listed


def _built(config: Config) -> tuple["nn.Module", "Coverage"]:
    """Return the quantized network without memory for its weights, and its coverage; raise UsageError."""
    from qexp.experiment.preflight import covered_network

    try:
        return covered_network(config)
    except Invalid as error:
        raise UsageError("; ".join(map(str, error.problems))) from error
    except ValueError as error:
        raise UsageError(f"model={config.model.name}: {error}") from error


def _networks(config: Config) -> list[tuple[str, str]]:
    """Return rows with the names of all networks of a library, where the model is one of those."""
    if (library := library_of(config.model.target)) is None:
        return []
    from qexp.models.library_networks import network_names

    names = network_names(library)
    lines = textwrap.wrap(", ".join(names), max(40, make_console().width - 20), break_long_words=False)
    return [(plural(len(names), "network") if line is lines[0] else "", line) for line in lines]


def _shown(config: Config, *, with_layers: bool) -> str:
    from qexp.quantizers import weight_memory_bytes

    network, coverage = _built(config)
    at_bits, as_float = weight_memory_bytes(network)
    options = ", ".join(f"{key}={value}" for key, value in config.model.options.items() if value is not None)
    rows = [
        ("made by", config.model.target + (f" with {options}" if options else "")),
        *_networks(config),
        ("float weights", f"{as_float / 1000:,.1f} kB in {plural(len(coverage.layers), 'layer')}"),
        ("quantized", f"{at_bits / 1000:,.1f} kB; {coverage.line().removeprefix('quantized: ')}"),
    ]
    shown = named_rows(config.label, rows)
    return f"{shown}\n\n{coverage}" if with_layers else shown
