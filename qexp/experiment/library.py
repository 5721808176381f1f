"""qexp as a library: its methods by their names, with the defaults of their YAML files. docs/library.md has a loop."""

from typing import Any, cast

from qexp.config.places import conf_dir
from qexp.config.schema import Invalid
from qexp.config.sections import parse_sections
from qexp.config.yaml_files import load_yaml
from qexp.experiment.named_parts import resolve
from qexp.quantizers import Method
from qexp.utils.errors import UsageError
from qexp.utils.text import one_line, suggest


def method(name: str, **options: Any) -> Method:
    """Return a method of qexp's: `method("daq", weight_gamma=3.0)`.

    Args:
        name: of a file in conf/quantizer.
        options: that are to be other than in that file.

    Raises:
        UsageError: no such method, or options that do not fit it.
    """
    known = sorted(path.stem for path in (conf_dir() / "quantizer").glob("*.yaml"))
    if name not in known:
        raise UsageError(f"no method '{one_line(name)}'{suggest(name, known)}; there are {', '.join(known)}")
    tree = load_yaml(conf_dir() / "quantizer" / f"{name}.yaml")
    try:
        target, values = resolve(parse_sections({"quantizer": {**tree, **options}})[0]["quantizer"], "quantizer")
        return cast(Method, target(**values))
    except (Invalid, ValueError) as error:
        raise UsageError(str(error)) from error
