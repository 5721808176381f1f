"""docs/configuration.md is what the YAML files say, and each of them has its command on top."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from qexp.config.compose import composing
from qexp.config.identity import LIBRARIES
from qexp.config.places import conf_dir
from qexp.config.yaml_files import load_yaml
from qexp.tables.published import table_names

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path.relative_to(conf_dir()).as_posix() for path in conf_dir().rglob("*.yaml"))


@pytest.fixture(scope="module")
def configuration():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("configuration", ROOT / "scripts" / "configuration.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_the_page_is_up_to_date(configuration):
    """If this fails: make docs."""
    assert configuration.PAGE.read_text() == configuration.page()


def test_a_page_that_is_out_of_date_is_told_and_written_again(configuration, tmp_path, monkeypatch, capsys):
    page = tmp_path / "docs" / "configuration.md"
    page.parent.mkdir()
    page.write_text(configuration.page())
    shutil.copytree(configuration.CONF, tmp_path / "conf")
    for name, path in (("ROOT", tmp_path), ("CONF", tmp_path / "conf"), ("PAGE", page)):
        monkeypatch.setattr(configuration, name, path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["configuration.py", *words])
        return configuration.main()

    assert run("--check") == 0
    daq, before = tmp_path / "conf" / "quantizer" / "daq.yaml", page.read_text()
    daq.write_text(daq.read_text().replace("weight_gamma: 2.0", "weight_gamma: 3.0"))
    assert (run("--check"), page.read_text()) == (1, before)
    assert capsys.readouterr().err == "docs/configuration.md is out of date; make docs writes it\n"
    assert run() == 0
    assert "| `quantizer.weight_gamma` | `3.0` |" in page.read_text()
    assert run("--check") == 0


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("paper/")])
def test_every_option_has_a_meaning(configuration, name):
    options = configuration.read_options(conf_dir() / name)
    assert [option.key for option in options if option.value and not option.comment] == []


@pytest.mark.parametrize("name", FILES)
def test_each_file_has_its_command_on_top(configuration, name):
    """A command that qexp train accepts and that chooses the file, or one of qexp table or qexp eval."""
    command, text = configuration.heading(conf_dir() / name)
    group, _, stem = name.removesuffix(".yaml").partition("/")
    assert text
    if group == "paper":
        assert command == f"qexp table {stem}"
        assert stem in table_names(conf_dir() / "paper")
    elif group == "eval_daq":
        assert command == "qexp eval checkpoint=FILE format=daq"
    else:
        assert command.startswith("qexp train ")
        words = tuple(word for word in command.split()[2:] if word != "data_dir=DIR")
        with composing() as composer:
            job = composer.job(words)
        assert job.problems == ()
        if group == "recipe":
            assert job.tree["recipe"] == load_yaml(conf_dir() / name)
        elif stem:
            chosen = job.tree[group]
            named = chosen if group == "protocol" else chosen["name"]
            assert named == (f"{stem}-{chosen['network']}" if stem in LIBRARIES else stem)
