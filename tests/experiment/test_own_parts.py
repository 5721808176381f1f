"""What is said of a part of the user's own that is not as it must be: the wrong argument, the file and the line."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qexp.config import trust
from qexp.config.config import Section
from qexp.config.schema import Invalid
from qexp.experiment.build import build_source
from qexp.experiment.own_parts import check_dataset, own_part
from qexp.utils.errors import UsageError
from support.commands import Configure, Qexp

HEAD = """
from dataclasses import dataclass, field
import torch
from torch import nn
from qexp.data.datasets import Images, MemorySource, Source
from qexp.quantizers.base import LayerInfo, Method, Quantizer
"""
METHOD = HEAD + "class X(Method):\n    def weight(self, bits, layer=None): return {made}\n    activation = weight\n"


WRONG = {
    "no module": ("quantizer", None, "mine.nothing.X", "there is no module mine.nothing"),
    "no package": ("quantizer", None, "yours.part.X", "is of the package yours, of which nothing is run unless"),
    "no such name": ("quantizer", "class Xs: pass", "", "there is no X in mine.part (did you mean 'Xs'?)"),
    "a constant": ("quantizer", "X = 3", "", "is neither a class nor a function"),
    "of somebody else": (
        "quantizer",
        "from qexp.quantizers.ste import STE as X",
        "",
        "is qexp.quantizers.ste.STE, which is not of mine",
    ),
    "a function of Python's": ("model", "from shutil import rmtree as X", "", "is shutil.rmtree, which is not of mine"),
    "does not compile": (
        "quantizer",
        "\n\ndef x(:\n",
        "",
        "cannot be imported: mine/part.py, line 3: SyntaxError: invalid syntax",
    ),
    "fails": ("quantizer", "\nx = 1\ny = x / 0\n", "", "mine/part.py, line 3: ZeroDivisionError: division by zero"),
    "ends the process": (
        "quantizer",
        "import sys\nsys.exit(3)",
        "",
        "mine/part.py, line 2: own code called sys.exit(3)",
    ),
    "imports what is not there": (
        "quantizer",
        "import nothing_of_this_name",
        "",
        "mine/part.py, line 1: ModuleNotFoundError: No module named 'nothing_of_this_name'",
    ),
    "no method": ("quantizer", "class X: pass", "", "must be a subclass of qexp.quantizers.base.Method"),
    "half a method": (
        "quantizer",
        HEAD + "class X(Method):\n    def weight(self, bits, layer=None): pass",
        "",
        "lacks activation, which qexp.quantizers.base.Method asks for",
    ),
    "a method without the layer": (
        "quantizer",
        HEAD + "class X(Method):\n    def weight(self, bits): pass\n    activation = weight",
        "",
        "weight(self, bits): must take self, bits, layer (too many positional arguments)",
    ),
    "a method that wants more": (
        "quantizer",
        HEAD + "class X(Method):\n    def weight(self, bits, layer, more): pass\n    activation = weight",
        "",
        "weight(self, bits, layer, more): must take self, bits, layer (missing a required argument: 'more')",
    ),
    "annotations of nothing": (
        "quantizer",
        "from __future__ import annotations\n"
        + HEAD
        + "class X(Method):\n    def __init__(self, *, a: Nothing): pass\n"
        + "    def weight(self, bits, layer=None): pass\n    activation = weight",
        "",
        "its annotations name what is not there (name 'Nothing' is not defined)",
    ),
    "no data set": ("dataset", HEAD + "class X(Method): pass", "", "must be a subclass of qexp.data.datasets.Source"),
    "half a data set": (
        "dataset",
        HEAD + "class X(MemorySource): pass",
        "",
        "lacks counts, read, which qexp.data.datasets.Source asks for",
    ),
    "counts without download": (
        "dataset",
        HEAD + "class X(MemorySource):\n    def counts(self, data_dir): pass\n    def read(self, data_dir): pass",
        "",
        "counts(self, data_dir): must take self, data_dir, download (got an unexpected keyword argument 'download')",
    ),
    "a model class": ("model", HEAD + "class X(nn.Module): pass", "", "returns a torch.nn.Module, not a class"),
    "a model with other names": (
        "model",
        "def X(num_classes, channels, image_size): pass",
        "",
        "its first argument is 'num_classes', and must be 'classes'",
    ),
    "a model without a size": (
        "model",
        "def X(classes, channels): pass",
        "",
        "its third argument is missing, and must be 'image_size'",
    ),
    "options before the star": (
        "model",
        "def X(classes, channels, image_size, width=1.0): pass",
        "",
        "its argument 'width=1.0' must stand behind *",
    ),
}


@pytest.mark.parametrize(("kind", "text", "target", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_in_one_line(
    write: Callable[[str], None], kind: str, text: str | None, target: str, said: str
) -> None:
    write(text or "")
    with pytest.raises(Invalid) as caught:
        own_part(kind, target or "mine.part.X")
    (problem,) = caught.value.problems
    assert problem.key == f"{kind}._target_"
    assert said in problem.message
    assert "\n" not in str(problem)


def test_a_package_that_lies_nowhere(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(trust.NAMES, "yours")
    with pytest.raises(Invalid, match="there is no package yours here: not installed, not in this folder"):
        own_part("quantizer", "yours.part.X")


def test_debug_shows_the_traceback(
    write: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    write("x = 1 / 0")
    monkeypatch.setenv("QEXP_DEBUG", "1")
    with pytest.raises(Invalid):
        own_part("quantizer", "mine.part.X")
    assert "Traceback" in capsys.readouterr().err


def command(qexp: Qexp, *words: str) -> str:
    """What `qexp train` says of the words, in its one line."""
    Path("conf/quantizer").mkdir(parents=True, exist_ok=True)
    Path("conf/model").mkdir(parents=True, exist_ok=True)
    Path("conf/quantizer/x.yaml").write_text("_target_: mine.part.X\nname: x\ndefault_bits: 2\n")
    Path("conf/model/m.yaml").write_text("_target_: mine.part.m\nname: m\n")
    tiny = ("dataset=synthetic", "model=resnet20", "init=scratch", "device=cpu")
    result = qexp("train", "--config-dir", "conf", "trust=mine", *tiny, *words)
    assert (result.code, len(result.errors)) == (2, 1), result.err
    assert not Path("runs").exists()
    return str(result.errors[0])


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("None", "weight() returned nothing and must return a qexp.quantizers.base.Quantizer"),
        ("nn.Identity()", "weight() returned an object of torch.nn.modules.linear.Identity and must"),
        ("1 / 0", "mine/part.py, line 8: ZeroDivisionError: division by zero"),
        ("Quantizer(bits)", "mine/part.py, line 8: TypeError: Can't instantiate abstract class Quantizer"),
    ],
)
def test_a_method_that_makes_something_else(qexp: Qexp, write: Callable[[str], None], made: str, said: str) -> None:
    write(METHOD.format(made=made))
    assert said in command(qexp, "quantizer=x")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return None", "must return a torch.nn.Module, and returned nothing"),
        ("return nn.Sequential(nn.Flatten(), nn.Linear(3, 4))", "cannot train on a batch of 32 images of 8x8 pixels"),
        (
            "return nn.Sequential(nn.Flatten(), nn.Linear(192, 7))",
            "gives a tensor (2, 7) for 2 images, and must give logits (2, 10)",
        ),
        ("raise LookupError('x')", "mine/part.py, line 8: LookupError: x"),
    ],
)
def test_a_model_that_gives_something_else(qexp: Qexp, write: Callable[[str], None], body: str, said: str) -> None:
    write(f"{HEAD}def m(classes, channels, image_size):\n    {body}\n")
    assert said in command(qexp, "model=m", "quantizer=ste")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("classes = '4'", "classes is '4' and must be a whole number of 1 or more"),
        ("classes = 0", "classes is 0 and must be"),
        ("channels = 1", "name is missing: a word for messages"),
    ],
)
def test_a_data_set_that_does_not_say_what_it_is(
    write: Callable[[str], None], configure: Configure, monkeypatch: pytest.MonkeyPatch, fields: str, said: str
) -> None:
    rest = {"classes": "4", "channels": "1", "image_size": "8"}
    rest.pop(fields.partition(" ")[0])
    lines = "".join(f"    {key} = {value}\n" for key, value in rest.items())
    name = "" if "channels" in fields else "    name = 'x'\n"
    write(
        f"{HEAD}class X(MemorySource):\n    {fields}\n{lines}{name}"
        "    def counts(self, data_dir, *, download=True): return 4, 4\n    def read(self, data_dir): pass\n"
    )
    options: dict[str, Any] = {"train_size": None, "test_size": None, "mean": [0.5], "std": [0.5]}
    config = replace(configure(), dataset=Section("x", "mine.part.X", options))
    with pytest.raises(Invalid) as caught:
        build_source(config)
    assert said in str(caught.value)


def test_data_that_make_no_batches_are_refused() -> None:
    class Source:
        name = "x"

    class Half:
        def train_batches(self, batch_size: int) -> None:
            pass

    with pytest.raises(UsageError, match=r"^x: load\(\) returned nothing, which has no train_batches$"):
        check_dataset(None, Source())  # type: ignore[arg-type]
    with pytest.raises(
        UsageError, match=r"^train_batches\(batch_size: int\) -> None: must take batch_size, device, seed"
    ):
        check_dataset(Half(), Source())  # type: ignore[arg-type]
