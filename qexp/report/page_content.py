"""What is on a report's page, as data: nothing here knows HTML, and no text in it is escaped."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from qexp.figures import Chart

Tone = Literal["", "good", "bad", "soft"]


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: as it is read.
        value: as it is sorted; None for what has no number, which comes last in either direction.
        tone: how it stands out.
        link: the id of a place on the page that it leads to.
    """

    text: str
    value: float | None = None
    tone: Tone = ""
    link: str = ""


@dataclass(frozen=True)
class PageTable:
    """A table that can be sorted, and where it is long filtered.

    Attributes:
        name: what its rows are, in the plural, for its filter.
        headers: of its columns.
        rows: of cells; of a column whose cells have values the numbers are aligned.
        hints: header -> what it means, shown under the pointer.
        notes: lines below it.
        fold: what stands for it until it is asked for; nothing for a table that is always shown.
    """

    name: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    hints: dict[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    fold: str = ""
    kind: str = "table"

    @property
    def numeric(self) -> list[bool]:
        """Of each column, whether it holds numbers."""
        columns = [[row[at] for row in self.rows] for at in range(len(self.headers))]
        return [any(cell.value is not None for cell in column) for column in columns]


@dataclass(frozen=True)
class Facts:
    """Names and values, one below the other; `title` above them where there is one."""

    rows: Sequence[tuple[str, str]]
    title: str = ""
    kind: str = "facts"


@dataclass(frozen=True)
class Lines:
    """Sentences, one below the other."""

    lines: Sequence[str]
    kind: str = "lines"


@dataclass(frozen=True)
class Commands:
    """Commands to be copied into a shell, each with what is said above it; long lists are folded."""

    commands: Sequence[tuple[str, str]]
    notes: Sequence[str] = ()
    kind: str = "commands"


@dataclass(frozen=True)
class Picture:
    """A chart, and what is said below it."""

    chart: Chart
    notes: Sequence[str] = ()
    kind: str = "picture"


@dataclass(frozen=True)
class Folded:
    """A text that is shown when it is asked for."""

    title: str
    text: str
    kind: str = "folded"


Part = PageTable | Facts | Lines | Commands | Picture | Folded


@dataclass(frozen=True)
class PageSection:
    """Parts under a heading, which has an id of its own."""

    title: str
    parts: Sequence[Part]

    @property
    def id(self) -> str:
        """Of its heading."""
        return "-".join(self.title.lower().split())


@dataclass(frozen=True)
class Warned:
    """Something that a reviewer has to know: in a word, and in a sentence, with the runs that it is about."""

    word: str
    text: str
    runs: Sequence[str] = ()


@dataclass(frozen=True)
class Content:
    """A whole page.

    Attributes:
        title: what it is about.
        subtitle: in a line, what all of it has in common.
        key_numbers: name -> value, what a reader looks for first.
        warnings: in the order of their weight.
        sections: in the order of the page.
        source: what the page says of its making: the command, the version, the commit.
    """

    title: str
    subtitle: str
    key_numbers: Sequence[tuple[str, str]]
    warnings: Sequence[Warned]
    sections: Sequence[PageSection]
    source: Sequence[tuple[str, str]]
