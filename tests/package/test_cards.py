"""The cards of the methods: all in one form, about what the code has, with numbers that stand in tables and results."""

import re

import pytest

from qexp.config.places import conf_dir
from qexp.config.yaml_files import load_yaml
from qexp.quantizers.parameter_groups import parameter_roles
from support import methods
from support.jobs import jobs_of, methods_of
from support.pages import ROOT, section

HEAD = ("paper", "code, options", "bits", "learned", "soft form")
SECTIONS = (
    "Idea",
    "Forward",
    "Backward",
    "Learned, schedule, start",
    "Open in the paper, chosen here",
    "Cost",
    "Command",
    "Published and measured",
)
FOLDER = ROOT / "docs" / "methods"
DOES_NOT_APPLY = "Does not apply: "
NUMBER = re.compile(r"\d+(?:[.,]\d+)+")  # with a point or a comma: what is measured, not what is counted

of_every_method = pytest.mark.parametrize("name", methods.NAMES)


def card(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text()


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in a text, without the lines under their heads."""
    lines = [line.strip("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")] for line in lines if set(line) - set("|-")]


def head(text: str) -> dict[str, str]:
    """What stands in the table above the sections."""
    return dict(rows(text.partition("\n## ")[0])[1:])


def numbers(*texts: str) -> set[str]:
    return {found for text in texts for found in NUMBER.findall(text)}


def built(name: str) -> list:
    """A quantizer of every kind that the contract test tries: of each side and bit-width, and with other options."""
    sites = [site for site in methods.all_sites() if site[0].split()[0] == name]
    return [methods.build(*site) for site in sites]


def check_form(text: str) -> None:
    """A head with its rows, then the sections in their order, none of them empty."""
    assert tuple(head(text)) == HEAD
    assert all(head(text).values())
    assert tuple(re.findall(r"^#+ (.*)$", text, re.MULTILINE)[1:]) == SECTIONS
    for title in SECTIONS:
        assert section(text, title).strip(), title
    for title in ("Forward", "Backward"):
        own = section(text, title)
        assert re.search(r"^```text\n.+?^```$", own, re.DOTALL | re.MULTILINE) or own.strip().startswith(DOES_NOT_APPLY)


@of_every_method
def test_a_card_has_the_form(name):
    text = card(name)
    assert text.startswith(f"# {name}: ")
    check_form(text)
    assert f"[`{name}`]({name}.md)" in (FOLDER / "README.md").read_text()


@pytest.mark.parametrize("name", [name for name in methods.NAMES if name != "fp"])
def test_a_card_has_a_picture_of_function_and_gradient(name):
    """Behind the formulas, with the command that draws it, which the picture names as well."""
    picture, command = f"../images/transfer-{name}.svg", f"qexp plot transfer {name}"
    assert re.search(rf"^!\[.+\]\({re.escape(picture)}\)$", section(card(name), "Backward"), re.MULTILINE)
    assert f"`{command}`" in section(card(name), "Backward")
    drawn = (FOLDER / picture).read_text()
    assert f"command: {command}<" in drawn  # no commit: make figures draws it again and compares
    assert len(drawn) < 200_000


@of_every_method
def test_a_card_is_short(name):
    """Two screens; lines are wrapped but for those of tables."""
    lines = card(name).splitlines()
    assert len(lines) <= 120
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []


def test_the_page_about_adding_a_method_shows_the_form():
    """Its example has all sections, and the text says what stands in each."""
    page = (ROOT / "docs" / "add_a_method.md").read_text()
    check_form(re.search(r"^````markdown\n(# clip: .*?)^````$", page, re.DOTALL | re.MULTILINE)[1])
    told = [cells[0].strip("*") for cells in rows(section(page, "The card"))[1:]]
    assert tuple(told) == ("head", *SECTIONS)


@of_every_method
def test_a_card_names_the_code_and_the_options(name):
    raw = load_yaml(conf_dir() / "quantizer" / f"{name}.yaml")
    module = raw["_target_"].rpartition(".")[0].replace(".", "/")
    assert head(card(name))["code, options"] == f"`{module}.py`, `conf/quantizer/{name}.yaml`"
    command = section(card(name), "Command")
    assert f"](../configuration.md#{name})" in command
    assert [option for option in raw.keys() - {"_target_", "name"} if f"`{option}`" not in command] == []


@of_every_method
def test_a_card_names_the_roles_of_what_is_learned(name):
    """Those that the method's quantizers and layers really have, and no other."""
    learned = {role for quantizer in built(name) for role in parameter_roles(quantizer)}
    learned |= {"scale"} if methods.method(name).output_scale else set()
    assert set(re.findall(r"role `(\w+)`", head(card(name))["learned"])) == learned
    body = section(card(name), "Learned, schedule, start")
    assert set(re.findall(r"role `(\w+)`", body)) == learned


@of_every_method
def test_a_card_says_whether_there_is_a_soft_form(name):
    has_one = any(quantizer.has_soft_form for quantizer in built(name))
    assert head(card(name))["soft form"].startswith("yes: " if has_one else "no")


@of_every_method
def test_the_commands_of_a_card_are_jobs_of_the_method(name, qexp):
    """The first one is that of the YAML file; all stand in indented lines."""
    commands = re.findall(r"^    (.+)$", section(card(name), "Command"), re.MULTILINE)
    assert (conf_dir() / "quantizer" / f"{name}.yaml").read_text().startswith(f"# {commands[0]}\n")
    for command in commands:
        program, verb, *words = command.split()
        assert (program, verb) == ("qexp", "train")
        assert {method.rpartition("-w")[0] for method in methods_of(jobs_of(qexp, *words))} == {name}, command


@of_every_method
def test_what_a_card_says_of_cost_was_measured(name):
    """Each number stands somewhere in docs/PERFORMANCE.md, which names the machine; the rest is `not measured`."""
    cost = section(card(name), "Cost")
    assert "](../PERFORMANCE.md)" in cost or "not measured" in cost.lower()
    assert numbers(cost) - numbers((ROOT / "docs" / "PERFORMANCE.md").read_text()) == set()


@of_every_method
def test_what_was_published_and_measured_stands_in_a_table_or_a_result(name):
    """The last cell of a row holds our numbers, which docs/results has, or says `not run`."""
    results = numbers(*(path.read_text() for path in (ROOT / "docs" / "results").glob("*.md")))
    first, *table = rows(section(card(name), "Published and measured"))
    assert first[-3:] == ["published", "source", "ours"]
    for *_, published, source, ours in table:
        tables = re.findall(r"`qexp table (\S+)`", source)
        if tables:
            known = numbers(*((conf_dir() / "paper" / f"{table}.yaml").read_text() for table in tables))
            assert numbers(published) - known == set(), published
        assert ours == "not run" or ("seed" in ours and numbers(ours) and numbers(ours) <= results), ours
