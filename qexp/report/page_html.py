"""A page's content as one HTML file: what it needs is inside, and its security policy lets it load nothing."""

import base64
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import qexp
from qexp.report.page_content import Content, Picture
from qexp.report.page_svg import colour_rules, inline_svg
from qexp.utils.errors import UsageError
from qexp.utils.text import UNFIT

TEMPLATES = Path(__file__).parent / "templates"
MARK = '<meta name="generator" content="qexp '  # by which a page that may be replaced is known
LONG_TABLE = 8  # rows from which on a table has a filter

_IN_JSON = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026", 0x2028: "\\u2028", 0x2029: "\\u2029"}


def as_html(content: Content) -> bytes:
    """Return a page as HTML; every text in it is escaped.

    Raises:
        UsageError: jinja2 or matplotlib is not installed.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError:
        raise UsageError("reports need jinja2: pip install 'qexp[plot]'") from None
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_readable,
    )
    style = _file("page.css").replace("/* figures */", colour_rules())
    script, pictures = _file("page.js"), _pictures(content)
    text = environment.get_template("page.html").render(
        page=content,
        policy=policy(style, script),
        style=Markup(style),
        script=Markup(script),
        svg={at: Markup(svg) for at, (svg, _) in pictures.items()},
        data=Markup(json_for_html([pointed for _, pointed in pictures.values()])),
        numbers={at: place for place, at in enumerate(pictures)},
        version=qexp.__version__,
        is_long=lambda table: len(table.rows) >= LONG_TABLE,
    )
    return text.encode()


def _readable(value: Any) -> Any:
    """Return a text without what no page shows: control characters, and letters that turn the direction of others."""
    if type(value) is not str:  # markup is ours
        return value
    return "\n".join(UNFIT.sub("?", line) for line in value.split("\n"))


def _pictures(content: Content) -> dict[tuple[int, int], tuple[str, Any]]:
    """Return (section, part) -> its SVG and what is under the pointer, in the order of the page."""
    found: dict[tuple[int, int], tuple[str, Any]] = {}
    for at, section in enumerate(content.sections):
        for place, part in enumerate(section.parts):
            if isinstance(part, Picture):
                found[at, place] = inline_svg(part.chart, f"p{len(found)}")
    return found


def _file(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def policy(style: str, script: str) -> str:
    """Return the Content-Security-Policy of a page: nothing is loaded, and only these two texts have an effect."""
    rules = ["default-src 'none'", f"style-src {_digest(style)}", f"script-src {_digest(script)}", "img-src data:"]
    return "; ".join([*rules, "base-uri 'none'", "form-action 'none'"])


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"


def json_for_html(value: Any) -> str:
    """Return JSON that cannot end the element it stands in, whatever its texts say."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).translate(_IN_JSON)


def is_page(content: bytes) -> bool:
    """Whether a file's content is such a page, and may be replaced by another."""
    return MARK.encode() in content[:4096]
