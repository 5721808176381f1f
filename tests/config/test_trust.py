"""Who may say that a package is trusted, where it is looked for, and what can never be."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from qexp.config import trust
from qexp.utils.errors import UsageError
from support.commands import Qexp


@pytest.fixture(autouse=True)
def _no_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is trusted, and nobody else is asked for packages afterwards."""
    monkeypatch.delenv(trust.NAMES, raising=False)
    monkeypatch.delenv(trust.FOLDERS, raising=False)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))


@pytest.mark.parametrize(
    ("words", "variable", "expected"),
    [
        (["trust=a"], None, ("a",)),
        (["trust=[a,b]"], None, ("a", "b")),
        (["trust=a, b"], None, ("a", "b")),
        (["trust=a", "x=1", "trust=c"], "b", ("b", "a", "c")),
        ([], "a,b", ("a", "b")),
        ([], " a , ", ("a",)),
        ([], "", ()),
        (["+trust=a", "trust"], None, ()),
    ],
)
def test_the_words_and_the_environment_name_packages(
    words: list[str], variable: str | None, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable is not None:
        monkeypatch.setenv(trust.NAMES, variable)
    before = dict(os.environ)
    with trust.trusting(words) as rest:
        assert trust.trusted() == expected
        assert rest == [word for word in words if not word.startswith("trust=")]
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    "name", ["os", "subprocess", "builtins", "sys", "torch", "qexp", "hydra", "numpy", "importlib", "timm"]
)
def test_what_is_of_python_or_under_qexp_is_nobodys_own(name: str) -> None:
    with pytest.raises(UsageError, match=f"^trust={name}: is a part of Python, or of what qexp is made of"):
        trust.trusting([f"trust={name}"]).__enter__()
    assert not trust.is_own(f"{name}.path.join")


@pytest.mark.parametrize("name", ["", "a.b", "_a", "__main__", "a-b", "class", "a b", "é", "../a", "a\n", "[a"])
def test_other_words_are_no_names(name: str) -> None:
    with pytest.raises(UsageError, match="must be the name of a package, without dots"):
        trust.trusting([f"trust={name}"]).__enter__()


def test_a_package_that_nobody_named_is_told_how_to_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(trust.NAMES, "mine,other")
    assert trust.trust_problem("mine.part.X") is None
    assert trust.trust_problem("mines.part.X") == (
        "is of the package mines, of which nothing is run unless you name it: trust=mines (trusted are: mine, other)"
    )
    monkeypatch.delenv(trust.NAMES)
    assert str(trust.trust_problem("mines.part.X")).endswith("unless you name it: trust=mines")
    monkeypatch.setenv(trust.NAMES, "mine,other")
    assert trust.trust_words() == ["trust=[mine,other]"]


def test_a_wrong_name_in_the_environment_is_told_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(trust.NAMES, "a,os")
    with pytest.raises(UsageError, match=r"^QEXP_TRUST=os: "):
        trust.trusting([]).__enter__()
    assert trust.trusted() == ("a",)
    with trust.trusting(["trust=x"], takes_words=False) as rest:
        assert rest == ["trust=x"]


@pytest.mark.parametrize(
    "target", ["a", "a.", ".a.b", "a._b", "a.__class__", "a..b", "a.b c", "é.b", "a.b\n", "qexp.x.Y"]
)
def test_only_public_names_are_targets(target: str) -> None:
    assert not trust.is_own(target)
    assert trust.is_own("a.b")


@pytest.mark.parametrize("flag", [["--config-dir", "sub/conf"], ["--config-dir=sub/conf"], ["-cd", "sub/conf"]])
def test_a_package_is_found_beside_the_configuration_and_in_the_working_directory(
    workspace: Path, flag: list[str]
) -> None:
    for place in ("sub/beside", "here"):
        Path(place).mkdir(parents=True)
        Path(place, "__init__.py").write_text("raise AssertionError('nobody imports it')")
    with trust.trusting([*flag, "trust=[beside,here]"]):
        for name, place in (("beside", "sub/beside"), ("here", "here")):
            spec = trust.find_package(name)
            assert spec is not None
            assert spec.origin == str(workspace / place / "__init__.py")
    assert find_spec("beside") is None


def test_names_that_are_not_trusted_are_not_found_there(workspace: Path) -> None:
    Path("stranger.py").write_text("")
    with trust.trusting(["trust=friend"]):
        assert trust.find_package("friend") is None
        assert find_spec("stranger") is None


def test_what_is_installed_comes_first_and_a_mere_folder_last(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = workspace.parent / "site"
    for place in (installed / "first" / "__init__.py", workspace / "first" / "__init__.py"):
        place.parent.mkdir(parents=True)
        place.write_text("")
    (installed / "second").mkdir()  # no package: it only has the name
    (workspace / "second").mkdir()
    (workspace / "second" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(installed))
    with trust.trusting(["trust=[first,second]"]):
        first, second = trust.find_package("first"), trust.find_package("second")
    assert first is not None
    assert second is not None
    assert (first.origin, second.origin) == (
        str(installed / "first" / "__init__.py"),
        str(workspace / "second" / "__init__.py"),
    )


def test_an_error_is_placed_in_the_package_that_is_trusted(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = compile("\n\ndef fail():\n    raise KeyError('x')\n", str(workspace / "mine.py"), "exec")
    names = {"__name__": "mine.part"}
    exec(code, names)
    monkeypatch.setenv(trust.NAMES, "mine")
    with pytest.raises(KeyError) as caught:
        names["fail"]()  # type: ignore[operator]
    assert trust.error_in_own_code(caught.value) == "mine.py, line 4: KeyError: 'x'"
    monkeypatch.setenv(trust.NAMES, "others")
    assert trust.error_in_own_code(caught.value) is None


SAYS = {
    "an option": "trust: intruder",
    "a list": "trust: [intruder]",
    "the environment of a job": "hydra: {job: {env_set: {QEXP_TRUST: intruder}}}",
    "a copy of the environment": "hydra: {job: {env_copy: [QEXP_TRUST]}}",
    "a sweep": "hydra: {sweeper: {params: {trust: intruder}}}",
}


@pytest.mark.parametrize("sweep", [(), ("-m",)])
@pytest.mark.parametrize("text", SAYS.values(), ids=SAYS)
def test_no_file_can_trust_itself(
    qexp: Qexp, workspace: Path, monkeypatch: pytest.MonkeyPatch, text: str, sweep: tuple[str, ...]
) -> None:
    """Whatever it says, the package that it names is not imported."""
    Path("intruder.py").write_text("from pathlib import Path\nPath('trace').mkdir()\nclass X: pass\n")
    folder = workspace.parent / "conf"
    folder.mkdir()
    target = "quantizer: {_target_: intruder.X, name: x, default_bits: 2}"
    (folder / "mine.yaml").write_text(f"defaults: [train, _self_]\n{target}\n{text}\n")
    monkeypatch.syspath_prepend(str(workspace))
    result = qexp("train", *sweep, "--config-dir", str(folder), "--config-name=mine")
    assert result.code == 2
    assert "Traceback" not in result.err
    assert "intruder" not in sys.modules
    assert not Path("trace").exists()
    assert not Path("runs").exists()


def test_a_table_cannot_trust_either(qexp: Qexp, workspace: Path) -> None:
    Path("conf/paper/mine").mkdir(parents=True)
    Path("intruder.py").write_text("from pathlib import Path\nPath('trace').mkdir()\n")
    keys = ("epochs", "batch", "optimizer", "start", "float_layers", "best_or_last", "soft_or_hard", "runs")
    protocol = "{" + ", ".join(f"{key}: x" for key in keys) + "}"
    row = "{id: a, label: a, overrides: trust=intruder quantizer._target_=intruder.X, reported: {}}"
    Path("conf/paper/mine/1.yaml").write_text(
        f"title: t\ncitation: c\nsource: s\nprotocol: {protocol}\ndifferences: []\noverrides: ''\n"
        f"seeds: [0]\nrows: [{row}]\n"
    )
    result = qexp("table", "--config-dir", "conf", "mine/1", "--run")
    assert result.code == 2
    assert "trust=intruder: counts as a word of the command" in result.err
    assert not Path("trace").exists()
