"""Planted mistakes: each still has its place in the code. `make mutate` plants them; .ci/run does that with one."""

import ast

import pytest

from support.scripts import SCRIPTS


def test_every_mistake_has_its_place_and_its_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever changes a line that a mistake is planted in changes the mistake as well."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from mistakes import MISTAKES

    root = SCRIPTS.parent
    assert len({mistake.name for mistake in MISTAKES}) == len(MISTAKES) >= 74
    assert [m.name for m in MISTAKES if (root / m.path).read_text().count(m.old) != 1] == []
    for mistake in MISTAKES:
        ast.parse((root / mistake.path).read_text().replace(mistake.old, mistake.new))
    assert [name for m in MISTAKES for name in m.tests if not (root / "tests" / f"{name}.py").is_file()] == []
