"""A report's page, read as a browser does: its elements, texts, tables, and what has an effect."""

import base64
import json
import re
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "input", "br"}


class HtmlPage(HTMLParser):
    """An HTML file.

    Attributes:
        elements: (tag, attributes) of all, in order.
        tables: of rows of cells, the header first.
        texts: between tags, in order, without those of scripts and styles.
        inside: tag -> what stands in its elements, of scripts and styles.
    """

    def __init__(self, content: bytes):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.texts: list[str] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self._open: list[str] = []
        self.feed(content.decode())
        self.close()
        assert self._open == [], "elements that are not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag in self.inside:
            self.inside[tag].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in self.inside:
            self.inside[self._open[-1]][-1] += data
            return
        self.texts.append(data)
        if {"td", "th"} & set(self._open):
            self.tables[-1][-1][-1] += data

    @property
    def text(self) -> str:
        """All of it that is read, on one line."""
        return " ".join(" ".join(self.texts).split())

    @property
    def data(self) -> Any:
        """What is under the pointer."""
        return json.loads(self.inside["script"][0])

    @property
    def policy(self) -> str:
        (found,) = (own["content"] for tag, own in self.elements if own.get("http-equiv") == "Content-Security-Policy")
        assert found is not None
        return found

    def table(self, header: str) -> list[dict[str, str]]:
        """The rows of the first table that begins with a header, by their headers."""
        rows = next(rows for rows in self.tables if rows[0][0] == header)
        return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]

    def check_policy(self) -> None:
        """Nothing is loaded, and nothing has an effect but what the policy names by its digest."""
        digests = re.findall(r"'sha256-([^']+)'", self.policy)
        own = [self.inside["style"][0], self.inside["script"][1]]
        assert digests == [base64.b64encode(sha256(text.encode()).digest()).decode() for text in own]
        assert (len(self.inside["style"]), len(self.inside["script"])) == (1, 2)
        assert self.policy.startswith("default-src 'none'; ")
        assert "unsafe" not in self.policy
        for tag, attributes in self.elements:
            assert tag not in ("img", "link", "iframe", "object", "embed", "base", "form"), tag
            for name, value in attributes.items():
                assert name != "style", (tag, attributes)
                assert not name.startswith("on"), (tag, attributes)
                assert name not in ("src", "srcset", "action"), (tag, attributes)
                assert name not in ("href", "xlink:href") or (value or "").startswith("#"), (tag, attributes)
