"""`qexp train --help`: every option with its value in this command, and what its YAML file says of it."""

import re
import string
import textwrap
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from qexp.cli.text import make_console
from qexp.config.compose import Composer, Job
from qexp.config.option_files import read_options
from qexp.config.overrides import GROUPS, TABLES
from qexp.config.places import conf_dir
from qexp.config.yaml_files import to_yaml

WIDEST = 120  # of a page, where the terminal is wider
COLUMN = 38  # where the meanings begin
_LINE = re.compile(r"( *)([^\s:#-][^:]*):(?: .*)?")
_OURS = {"APP_CONFIG_GROUPS", "CONFIG"}


def help_page(job: Job, composer: Composer, config_dir: str | None) -> str | None:
    """Return the page for a command, None where only Hydra can make it: its template is the user's own.

    Args:
        job: of the command, without problems.
        composer: that composed it.
        config_dir: the user's folder of YAML files.
    """
    if job.hydra is None:
        return None
    try:
        template = string.Template(str(job.hydra.help.template))
        choices = {str(group): str(name) for group, name in job.hydra.runtime.choices.items()}
    except (OmegaConfBaseException, AttributeError):
        return None
    if not template.is_valid() or not set(template.get_identifiers()) <= _OURS:
        return None
    width = min(make_console().width, WIDEST)
    named = [*GROUPS, *(f"{TABLES}/{name}" for name in composer.loader.list_groups(TABLES))]
    groups = [f"{group}: {', '.join(composer.choices(group))}" for group in named]
    filled = "\n".join(textwrap.fill(line, width, subsequent_indent="  ", break_on_hyphens=False) for line in groups)
    options = with_meanings(to_yaml(job.tree), meanings(choices, config_dir), width)
    return template.substitute(APP_CONFIG_GROUPS=f"{filled}\n", CONFIG=options)


def meanings(choices: Mapping[str, str], config_dir: str | None) -> dict[str, str]:
    """Return dotted key -> comment, of the primary file and of the chosen file of each group.

    Args:
        choices: group -> the name of its file.
        config_dir: the user's folder, whose files come after qexp's own.
    """
    folders = [conf_dir(), *([Path(config_dir)] if config_dir else [])]
    found: dict[str, str] = {}
    for group in ("protocol", *(group for group in GROUPS if group != "protocol"), ""):  # a protocol changes others
        name, prefix = choices.get(group, "train"), "" if group in ("protocol", "") else f"{group}."
        for path in (folder / group / f"{name}.yaml" for folder in folders):
            with suppress(OSError, ValueError, YAMLError, AssertionError):  # of the user's, or none
                found |= {f"{prefix}{one.key}": one.comment for one in read_options(path) if one.comment}
                break
    return found


def with_meanings(text: str, comments: Mapping[str, str], width: int) -> str:
    """Return YAML text with a comment behind each key that has one, in as many lines as it needs."""
    lines: list[str] = []
    place: list[str] = []
    for line in text.splitlines():
        if not (match := _LINE.fullmatch(line)):
            lines.append(line)
            continue
        place = [*place[: len(match[1]) // 2], match[2]]
        comment = comments.get(".".join(place), "")
        room = max(width - COLUMN - 2, 20)
        first, *rest = textwrap.wrap(comment, room, break_on_hyphens=False) or [""]
        lines.append(f"{line:<{COLUMN - 2}}  # {first}" if first else line)
        lines += [f"{'':<{COLUMN}}# {more}" for more in rest]
    return "\n".join(lines)
