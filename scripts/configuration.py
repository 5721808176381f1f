"""Write docs/configuration.md from the YAML files in conf/: every option, its default, and the comment beside it.

python scripts/configuration.py            write the page (make docs)
python scripts/configuration.py --check    only say whether it is up to date; exit code 1 if not
"""

import argparse
import sys
import textwrap
from pathlib import Path

from qexp.config.identity import INDIRECT, RUNTIME, YOUNGER
from qexp.config.option_files import Option, read_options

ROOT = Path(__file__).resolve().parent.parent
CONF, PAGE = ROOT / "conf", ROOT / "docs" / "configuration.md"
GROUPS = {
    "dataset": "What is trained on. `dataset.KEY=value` changes an option.",
    "model": "The network, as a plain float model.",
    "quantizer": "The method. Each has a card in [docs/methods](methods/).",
    "recipe": "How a network is trained. The recipe follows the dataset unless the command names one.",
    "protocol": "How much of it: what a protocol sets wins over the recipe and the dataset.",
}

BEGINNING = """\
# Configuration

Every option there is, its default and what it means. `make docs` writes this page from the YAML files in `conf/`, the
only place where defaults stand, and a test says when it is out of date. Edit the files and not the page.

An option is set by `key=value` behind `qexp train`, a group is chosen by `group=name`; `qexp train --cfg job` with the
same words prints the whole configuration, and `--config-dir DIR` adds a folder of YAML files of your own.
"""


def heading(path: Path) -> tuple[str, str]:
    """Return (the command, the text) of the comment on top of a YAML file."""
    lines = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.removeprefix("#").strip())
    return lines[0], "\n".join(lines[2:])


def table(options: list[Option], prefix: str) -> str:
    """Return options as a table; `prefix` comes before their keys on a command line."""
    rows = ["| option | default | meaning |", "|---|---|---|"]
    for option in options:
        default = f"`{option.value}`" if option.value else ""
        rows.append(f"| `{prefix}{option.key}` | {default} | {escaped(option.comment)} |")
    return "\n".join(rows)


def escaped(text: str) -> str:
    """Return text that stays in its cell: a bar is not the end of one."""
    return text.replace("|", "\\|")


def section(path: Path, prefix: str) -> str:
    """Return the part of the page for one file of a group."""
    command, text = heading(path)
    options = read_options(path)
    shown = table(options, prefix) if options else "It has no options."
    return f"### {path.stem}\n\n`conf/{path.relative_to(CONF).as_posix()}` · `{command}`\n\n{text}\n\n{shown}\n"


def main_section() -> str:
    """Return the part for conf/train.yaml: what a run computes, and what does not change that."""
    options = read_options(CONF / "train.yaml")
    runtime = [option for option in options if option.key.partition(".")[0] in RUNTIME and option.key != "bits"]
    others = [option for option in options if option not in runtime]
    indirect = ", ".join(f"`{group}.{key}`" for group, key in INDIRECT)
    written = {key: "null" if value is None else value for key, value in YOUNGER.items()}
    usual = ", ".join(f"`recipe.{key}={value}`" for key, value in written.items() if not isinstance(value, dict))
    roles = ", ".join(f"`recipe.{key}`" for key, value in written.items() if isinstance(value, dict))
    rest = f"""Not part of the identity either: {indirect} and `bits`, which act through the options that refer to them
    or change no result; `protocol`, which acts through the values that it sets; and {usual}, where they have these
    values, and {roles}, where they have those of the recipes."""
    return f"""## The run

`conf/train.yaml`. These say what is computed, so they are part of a run's identity: another value is another run, with
a directory of its own. So is every option of the groups below.

{table(others, "")}

## Runtime options

These change where, how fast and how visibly a run is done, and at most the last bits of its result. They are not part
of its identity: the same command with other values finds the same run (`RUNTIME` in `qexp/config/identity.py`).

{table(runtime, "")}

{textwrap.fill(" ".join(rest.split()), 120, break_on_hyphens=False)}
"""


def page() -> str:
    """Return the whole page."""
    parts = [BEGINNING, main_section()]
    for group, text in GROUPS.items():
        parts.append(f"## {group}\n\n{text}\n")
        prefix = "" if group == "protocol" else f"{group}."
        parts += [section(path, prefix) for path in sorted((CONF / group).glob("*.yaml"))]
    parts.append("## eval\n\nWhat `qexp eval` assumes of files in the layout of other people's code.\n")
    parts.append(section(CONF / "eval_daq.yaml", ""))
    parts.append("## paper\n\nThe tables of `qexp table` are data and no options; see [tables](tables.md).\n")
    return "\n".join(parts)


def main() -> int:
    """Write the page, or compare it; return the exit code."""
    parser = argparse.ArgumentParser(description="Write docs/configuration.md from the YAML files in conf/.")
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    if not parser.parse_args().check:
        PAGE.write_text(page())
        return 0
    if PAGE.is_file() and PAGE.read_text() == page():
        return 0
    print(f"{PAGE.relative_to(ROOT)} is out of date; make docs writes it", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
