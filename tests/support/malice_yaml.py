"""Texts in YAML that would run, read, write, or never end."""

import json
import random
from collections.abc import Callable
from typing import Any

from support.malice_pieces import CALLS, ESCAPES, NUMBERS, PATHS, TEXTS, odd
from support.overrides import INTERPOLATIONS, KEYS

HYDRAS = (
    *("run.dir", "sweep.dir", "sweep.subdir", "output_subdir", "searchpath", "job.chdir", "job.name", "job.id"),
    *("job.env_set.CANARY", "job.env_set.PATH", "job.env_set.LD_PRELOAD", "job.env_set.QEXP_RUNS", "job.env_copy"),
    *("job.config.override_dirname.kv_sep", "job.override_dirname", "job.config_name", "job.num", "job"),
    *("callbacks", "callbacks.x", "callbacks.y", "launcher", "launcher.n_jobs", "launcher.setup", "sweeper"),
    *("launcher.temp_folder", "launcher.pre_dispatch", "sweeper.params", "sweeper.params.seed", "sweeper.storage"),
    *("sweeper.max_batch_size", "sweeper.study_name", "job_logging", "job_logging.handlers", "hydra_logging"),
    *("job_logging.handlers.x", "job_logging.handlers.console", "job_logging.formatters.x", "job_logging.filters.x"),
    *("job_logging.root", "job_logging.root.handlers", "job_logging.root.level", "job_logging.loggers.x"),
    *("job_logging.version", "job_logging.incremental", "hydra_logging.handlers.x", "hydra_logging.root.handlers"),
    *("job_logging.disable_existing_loggers", "job_logging.formatters.simple.format", "help.template", "help.header"),
    *("help.app_name", "help.footer", "hydra_help.template", "hydra_help.hydra_help", "mode", "verbose", "runtime"),
    *("runtime.cwd", "runtime.output_dir", "runtime.config_sources", "overrides.task", "overrides.hydra", "x", "env"),
)
LOGS = (
    *("logging.FileHandler", "logging.handlers.RotatingFileHandler", "logging.handlers.WatchedFileHandler"),
    *("logging.handlers.SysLogHandler", "logging.handlers.HTTPHandler", "logging.handlers.QueueHandler"),
    *("logging.StreamHandler", "logging.NullHandler", "rich.logging.RichHandler", "logging.Formatter"),
    *("colorlog.ColoredFormatter", "logging.handlers.MemoryHandler", "logging.handlers.SMTPHandler"),
)
PLUGINS = (
    *("hydra.experimental.callbacks.PickleJobInfoCallback", "hydra.experimental.callbacks.LogJobReturnCallback"),
    *("hydra._internal.core_plugins.basic_launcher.BasicLauncher", "hydra_plugins.hydra_joblib_launcher._core.Path"),
    *("hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", "hydra.experimental.callback.Callback"),
    *("hydra._internal.core_plugins.basic_sweeper.BasicSweeper", "hydra._internal.core_plugins.bash_completion.Path"),
)
OPTIONS = ("stream", "filename", "mode", "level", "formatter", "filters", "args", "target", "capacity", "host", "style")
TAGS = ("apply", "new", "name", "module", "object/apply", "object/new", "object", "tuple", "dict", "complex")


def text(draw: random.Random) -> str:
    """A document of one to four parts."""
    tree: dict[str, Any] = {}
    blocks = []
    for _ in range(draw.choice((1, 1, 2, 2, 3, 4))):
        if draw.random() < 0.6:
            path, value = draw.choice((_order, _order, _order, _reference, _reference, _tagged))(draw)
            _put(tree, path.split("."), value)
        else:
            blocks.append(draw.choice(BLOCKS)(draw))
    blocks += [f"{_word(key)}: {_flow(value)}" for key, value in tree.items()]
    draw.shuffle(blocks)
    return "\n".join(blocks) + "\n"


def encoded(draw: random.Random, document: str) -> bytes:
    """The document in bytes, now and then of another encoding."""
    content = document.encode(errors="surrogatepass")
    if draw.random() < 0.85:
        return content
    others: tuple[Callable[[], bytes], ...] = (
        lambda: document.encode("utf-16", errors="surrogatepass"),
        lambda: document.encode("utf-32-le", errors="surrogatepass"),
        lambda: b"\xef\xbb\xbf" + content,
        lambda: document.encode("latin-1", errors="replace") + b"\xe9",
        lambda: content.replace(b"\n", b"\0\n", 1),
        lambda: content.replace(b"\n", b"\r"),
        lambda: content + b"\x1b[31m: 1\n",
        lambda: b"%YAML 9.9\n---\n" + content + b"...\n---\n" + content,
        lambda: content + b"#" * 2**21,
    )
    return draw.choice(others)()


# Parts that have a place: (dotted path, YAML)


def _order(draw: random.Random) -> tuple[str, str]:
    """One for Hydra."""
    values = (_call, _call, _log, _plugin, lambda draw: _flow(odd(draw)), lambda draw: _word(draw.choice(PATHS)))
    return f"hydra.{draw.choice(HYDRAS)}", draw.choice(values)(draw)


def _call(draw: random.Random) -> str:
    module, name, arguments = draw.choice(CALLS)
    maker = draw.choice(("_target_", "_target_", "()", "class", "cls", "'_target_ '"))
    named = {"_args_": list(arguments), "command": "touch canary", "args": arguments[:1], "_partial_": True}
    chosen = {key: named[key] for key in draw.sample(sorted(named), draw.choice((0, 1, 1, 2)))}
    return _group({maker: f"{module}.{name}", **chosen})


def _log(draw: random.Random) -> str:
    options = {key: draw.choice(_values_of_options(draw)) for key in draw.sample(OPTIONS, draw.choice((0, 1, 2, 3)))}
    return _group({draw.choice(("class", "class", "()")): draw.choice(LOGS), **options})


def _values_of_options(draw: random.Random) -> tuple[Any, ...]:
    paths = ("../outside/precious.txt", "canary", "precious.txt", "${hydra.runtime.output_dir}/x.log")
    streams = ("ext://sys.stdout", "ext://os.environ", "ext://intruder.run", "cfg://handlers", "ext://sys.stdin")
    return (*paths, *streams, "w", "x", odd(draw), ["x"], "DEBUG", 10**9)


def _plugin(draw: random.Random) -> str:
    options = {draw.choice(("x", "output_dir", "n_jobs", "params", "log_level", "_mode_")): odd(draw)}
    return _group({"_target_": draw.choice(PLUGINS), **(options if draw.random() < 0.7 else {})})


def _reference(draw: random.Random) -> tuple[str, str]:
    """An option that is said in terms of others, or of the machine."""
    key = draw.choice(KEYS) if draw.random() < 0.7 else f"hydra.{draw.choice(HYDRAS)}"
    return key, _word(reference(draw))


def reference(draw: random.Random, depth: int = 0) -> str:
    """An interpolation, with others inside."""
    if depth > 3 or draw.random() < 0.3:
        return draw.choice((*INTERPOLATIONS, "${oc.env:SECRET}", "${bits}${bits}", "canary", "7"))
    inner = reference(draw, depth + 1)
    name = draw.choice(("oc.create", "oc.decode", "oc.env", "oc.select", "oc.dict.values", "oc.deprecated", "now", "x"))
    form = draw.choice(("${%s:%s}", "${%s:'%s'}", "${%s:[%s]}", "${%s:{a:%s}}", "${%s:x,%s}", "${%s.%s}", "a%s%sb"))
    return form % (name, inner)


def _tagged(draw: random.Random) -> tuple[str, str]:
    """A value with a tag of YAML, most of which make objects of Python's."""
    module, name, arguments = draw.choice(CALLS)
    key = draw.choice((*KEYS, "hydra.job.name", "hydra.callbacks.x"))
    if draw.random() < 0.7:
        return key, f"!!python/{draw.choice(TAGS)}:{module}.{name} {json.dumps([str(one) for one in arguments])}"
    tag = draw.choice(
        ("binary", "set", "omap", "timestamp", "pairs", "int", "float", "null", "map", "seq", "bool", "x")
    )
    value = draw.choice(
        ('"gIGC"', "{a, b}", "[a: 1]", '"2001-01-01"', '"1:2:3:4"', "x", "{}", "[]", '"' + "9" * 99 + '"')
    )
    return key, f"{draw.choice(('!!', '!', '!<tag:yaml.org,2002:'))}{tag} {value}"


# Parts of their own


def _aliases(draw: random.Random) -> str:
    """Values that stand for values that stand for values."""
    levels, width = draw.choice(((3, 3), (9, 9), (30, 2), (40, 10), (200, 2), (5, 50))), draw.random() < 0.3
    lines = ["x0: &x0 [1, 1]" if not width else "x0: &x0 {a: 1}"]
    for level in range(1, levels[0]):
        many = [f"*x{level - 1}"] * levels[1]
        joined = ", ".join(f"k{number}: {one}" for number, one in enumerate(many)) if width else ", ".join(many)
        lines.append(f"x{level}: &x{level} " + ("{%s}" if width else "[%s]") % joined)
    lines.append(f"{draw.choice(('seed', 'keep_float', 'hydra.job.name', 'quantizer'))}: *x{levels[0] - 1}")
    return "\n".join(lines)


def _merges(draw: random.Random) -> str:
    return draw.choice(
        (
            "a: &a {b: 1, c: *a}",
            "a: &a\n  <<: *a\n  b: 1",
            "<<: {hydra: {job: {chdir: true}}}",
            "<<: [{seed: 3}, {seed: 4}, {hydra: {searchpath: ['pkg://intruder']}}]",
            "a: &a {_target_: os.system, command: touch canary}\nhydra: {callbacks: {x: {<<: *a}}}",
            "<<: 3",
            "? <<\n: ? <<\n  : {seed: 3}",
        )
    )


def _deep(draw: random.Random) -> str:
    depth = draw.choice((20, 51, 300, 1500, 20_000))
    before, after = draw.choice((("[", "]"), ("{a: ", "}"), ("[{a: ", "}]"), ("- ", ""), ("? ", ""), ("!!seq [", "]")))
    return f"{draw.choice(KEYS)}:\n {before * depth}1{after * draw.choice((depth, depth, depth - 1))}"


def _number(draw: random.Random) -> str:
    values = (
        "9" * 5000,
        "0x" + "f" * 5000,
        "0b" + "1" * 9000,
        ":".join(["59"] * 900),
        "1e" + "9" * 300,
        ".inf",
        ".nan",
    )
    others = ("0o17", "017", "1_000", "2001-01-01", "2001-99-99", "-0", "1.", "1e-9999", "12:30:45.5", "=", "~", "y")
    return f"{draw.choice(KEYS)}: {draw.choice((*values, *others, str(draw.choice(NUMBERS))))}"


def _key(draw: random.Random) -> str:
    """A key that is none."""
    strange = (
        "null",
        "true",
        "3",
        "1.5",
        "[a]",
        "{a: b}",
        "''",
        "'a.b'",
        "_target_",
        "_partial_",
        "_args_",
        "__class__",
    )
    more = ("'${seed}'", "hydra.job.chdir", "'hydra '", "Hydra", "'hydra/launcher'", "_recursive_", "'@'", "2001-01-01")
    key = draw.choice((*strange, *more, *map(_word, ESCAPES), _word("k" * 5000), "? [a, b]\n", "? {a: 1}\n"))
    return f"{key}: {_flow(odd(draw))}"


def _words(draw: random.Random) -> str:
    """An option with an odd value, in words of YAML's."""
    return f"{_word(draw.choice(KEYS))}: {_flow(odd(draw))}"


def _broken(draw: random.Random) -> str:
    return draw.choice(
        (
            "a: b: c",
            "\t- x",
            "a: [",
            "a: 'x",
            "- x",
            "a: *nothing",
            "&a",
            "a: |9\n x",
            "@x",
            "a: !<> x",
            "%x",
            "--- >",
            "",
        )
    )


def _oversized(draw: random.Random) -> str:
    return draw.choice(
        (
            "\n".join(f"k{number}: 1" for number in range(110_000)),
            f"seed: '{'x' * 2**20}'",
            "keep_float: [" + "a," * 400_000,
        )
    )


BLOCKS: tuple[Callable[[random.Random], str], ...] = (
    *(_aliases, _aliases, _merges, _merges, _deep, _number, _number, _key, _key, _words, _words, _broken, _oversized),
)


# Writing


def _put(tree: dict[str, Any], path: list[str], value: str) -> None:
    """Put a value into a tree; where something is in its way, that goes."""
    for key in path[:-1]:
        if not isinstance(tree.get(key), dict):
            tree[key] = {}
        tree = tree[key]
    tree[path[-1]] = _Raw(value)


class _Raw(str):
    """YAML as it stands."""


def _flow(value: Any) -> str:
    """A value as YAML on one line."""
    if isinstance(value, _Raw):
        return value
    if isinstance(value, dict):
        return _group(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _word(value) if isinstance(value, str) else json.dumps(value)


def _group(tree: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{_word(key)}: {_flow(value)}" for key, value in tree.items()) + "}"


def _word(word: str) -> str:
    """A text in quotes, escapes and all; TEXTS has what YAML does not allow as it stands."""
    return word if word.replace("_", "").isalnum() and word.isascii() and word not in TEXTS else json.dumps(word)
