"""qexp as a library: docs/library.md is run, and defaults stand in YAML alone."""

import dataclasses
import inspect

import pytest
import torch
import yaml

from qexp import quantizers
from qexp.config.places import conf_dir
from qexp.experiment.library import method
from qexp.utils.errors import UsageError
from support.pages import ROOT, blocks

NAMES = sorted(path.stem for path in (conf_dir() / "quantizer").glob("*.yaml"))
PAGE = (ROOT / "docs" / "library.md").read_text()


def test_the_loop_of_the_page_runs_in_25_lines() -> None:
    (code,) = blocks(PAGE, "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 25
    names: dict = {}
    exec(compile(code, "docs/library.md", "exec"), names)
    assert torch.isfinite(names["loss"])
    assert 0 <= names["accuracy"] <= 1
    layer = names["model"].layer1[0].conv1
    assert len(layer.weight_quantizer(layer.weight).unique()) == 4
    assert layer.weight_quantizer.converged()  # anneal has taken it to the end


def test_a_page_names_what_there_is() -> None:
    for name in ("quantize", "calibrate", "anneal", "penalty", "cached_weights", "parameter_roles", "evaluation"):
        assert f"| `{name}(" in PAGE
        assert callable(getattr(quantizers, name))


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_those_of_the_yaml_file_and_stand_nowhere_else(name: str) -> None:
    """Fields of a method have none in Python; `method` gives what the file says."""
    raw = yaml.safe_load((conf_dir() / "quantizer" / f"{name}.yaml").read_text())
    made = method(name)
    for field in dataclasses.fields(made):  # type: ignore[arg-type]
        assert field.default is dataclasses.MISSING
        assert field.default_factory is dataclasses.MISSING
        found, written = getattr(made, field.name), raw[field.name]
        assert list(found) == written if isinstance(written, list) else found == written
    options = set(inspect.signature(type(made)).parameters)
    assert options == raw.keys() - {"_target_", "name", "default_bits", "default_norm_batches"}


def test_an_option_can_be_another_one() -> None:
    assert method("daq", weight_gamma=3).weight_gamma == 3.0  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=r"quantizer.weight_gama=3: unknown option \(did you mean 'weight_gamma'\?\)"):
        method("daq", weight_gama=3)
    with pytest.raises(UsageError, match=r"weight_gamma=-1.0: must be greater than 0"):
        method("daq", weight_gamma=-1)
    with pytest.raises(UsageError, match=r"^no method 'stee' \(did you mean 'ste'\?\); there are br, daq"):
        method("stee")
