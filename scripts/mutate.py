"""Plant known mistakes in the quantizers one at a time, and see that the tests catch every one.

    python scripts/mutate.py                 all of them, a few minutes
    python scripts/mutate.py "half-up"       those whose name contains the text
    python scripts/mutate.py --write docs/mutations.md

Works on a copy in a temporary folder. Exit code 1 if a mistake survives, or its place in the code is gone.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ("test_daq", "test_dqa", "test_br", "test_grids", "test_ste", "test_quantize", "test_quantizer_contract")


@dataclass(frozen=True)
class Mistake:
    """One edit: in `file` below qexp/quantizers, `old` (which occurs once) becomes `new`."""

    name: str
    file: str
    old: str
    new: str


MISTAKES = (
    Mistake("DAQ: half-up rounding", "daq.py", ".sub_(0.5).ceil_()", ".add_(0.5).floor_().clamp_(0, steps)"),
    Mistake("DAQ: torch.round (half to even)", "daq.py", ".sub_(0.5).ceil_()", ".round_()"),
    Mistake("DAQ: exclusive range ends", "daq.py", "t.ne(raw)", "(raw.le(0) | raw.ge(ctx.steps))"),
    Mistake("DAQ: missing 1/n in du", "daq.py", "sum(dtype=torch.float64) / ctx.steps", "sum(dtype=torch.float64)"),
    Mistake("DAQ: missing factor 2 for weights", "daq.py", " * (1 + signed) / (upper", " / (upper"),
    Mistake("DAQ: 2 sigma^2 in the kernel", "daq.py", "0.5 / ctx.sigma**2", "0.25 / ctx.sigma**2"),
    Mistake("DAQ: gamma missing in the slope", "daq.py", "ctx.gamma / (2 * math.sinh", "1 / (2 * math.sinh"),
    Mistake("DAQ: population std of the weights", "daq.py", "max(weight.numel() - 1, 1)", "weight.numel()"),
    Mistake(
        "DAQ: missing 1/std in the weight's gradient",
        "daq.py",
        "return centered / std.clamp_min(TINY)",
        "return centered + (centered / std.clamp_min(TINY) - centered).detach()",
    ),
    Mistake("DAQ: beta without abs", "layers.py", "self.output_scale.abs().to(", "self.output_scale.to("),
    Mistake("DAQ: uA about zero instead of the mean", "daq.py", "3 * x.std()", "3 * x.square().mean().sqrt()"),
    Mistake("DQA: temperature starts at b = 0", "dqa.py", "** (progress.step /", "** ((progress.step - 1) /"),
    Mistake("DQA: population std of alpha", "dqa.py", "self.alpha.std()", "self.alpha.std(correction=0)"),
    Mistake("DQA: std outside the graph", "dqa.py", "self.alpha.std()", "self.alpha.detach().std()"),
    Mistake("DQA: temperature multiplies", "dqa.py", ".clamp_min(TINY) / self.temp", ".clamp_min(TINY) * self.temp"),
    Mistake("DQA: costs 1, 4, 8", "dqa.py", "COSTS = (1.0, 4.0, 16.0)", "COSTS = (1.0, 4.0, 8.0)"),
    Mistake("DQA: initial attention upside down", "dqa.py", "1 - widths / widths.sum()", "widths / widths.sum()"),
    Mistake("eq. 13 as printed, without offset", "functional.py", "return ((x - lower) / step)", "return (x / step)"),
    Mistake("uniform: 2^n steps, not 2^n - 1", "functional.py", "/ (2**bits - 1)\n    return", "/ 2**bits\n    return"),
    Mistake("BWN: sign(0) = 0", "grids.py", "torch.where(x >= 0, upper, lower)", "x.sign() * upper"),
    Mistake("TWN: mean over all entries", "spans.py", "kept.sum().clamp_min(1)", "x.numel()"),
    Mistake("TWN: threshold 0.75", "spans.py", "TERNARY_THRESHOLD = 0.7 ", "TERNARY_THRESHOLD = 0.75 "),
    Mistake("SAWB: c2 with the wrong sign", "sawb.py", ".sqrt() - c2 * size", ".sqrt() + c2 * size"),
    Mistake("SAWB: centred standard deviation", "sawb.py", "weight.square().mean().sqrt()", "weight.std(correction=0)"),
    Mistake("SAWB: search with absolute error", "sawb.py", ".sub_(values).square_()", ".sub_(values).abs_()"),
    Mistake("SAWB: clip never refreshed", "sawb.py", "refresh_interval = 100", "refresh_interval = None"),
    Mistake("PACT: no gradient to alpha at x = alpha", "pact.py", "mul(value >= alpha)", "mul(value > alpha)"),
    Mistake("PACT: gradient passes above alpha", "pact.py", "return grad * inside, ", "return grad, "),
    Mistake("PACT: gradient stops at x = alpha", "pact.py", "(value <= alpha)\n", "(value < alpha)\n"),
    Mistake("PACT: full precision in a mix is clipped", "relaxation.py", "all(one is x for one in carried)", "True"),
    Mistake("BR: omega one epoch off", "br.py", "progress.epoch /", "(progress.epoch + 1) /"),
    Mistake("BR: mix does not add up to 1", "br.py", "(omega + len(self.grids) - 1)", "(omega + len(self.grids))"),
    Mistake("running range used while training", "spans.py", "        if not self.training:\n", "        if True:\n"),
    Mistake("batch range used in evaluation", "spans.py", "        if not self.training:\n", "        if False:\n"),
)  # fmt: skip


def run_tests(folder: Path) -> str | None:
    """Run the tests in `folder`; return the first one that fails, None if all pass."""
    files = [f"tests/{name}.py" for name in TESTS]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *files]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return None
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", result.stdout, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"pytest did not run:\n{result.stdout}\n{result.stderr}")
    return found[1].removeprefix("tests/")


def try_mistake(folder: Path, mistake: Mistake) -> str | None:
    """Plant `mistake`, run the tests, take it out again; return the test that caught it."""
    path = folder / "qexp" / "quantizers" / mistake.file
    text = path.read_text()
    if text.count(mistake.old) != 1:
        raise SystemExit(f"{mistake.name}: `{mistake.old}` occurs {text.count(mistake.old)} times in {mistake.file}")
    path.write_text(text.replace(mistake.old, mistake.new))
    try:
        return run_tests(folder)
    finally:
        path.write_text(text)


def main() -> int:
    """Try all mistakes that were asked for; return the exit code."""
    parser = argparse.ArgumentParser(description="Plant known mistakes and see that the tests catch every one.")
    parser.add_argument("text", nargs="?", default="", help="only mistakes whose name contains this")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the list as markdown")
    arguments = parser.parse_args()
    chosen = [mistake for mistake in MISTAKES if arguments.text in mistake.name]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in ("qexp", "conf", "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        if (broken := run_tests(folder)) is not None:
            raise SystemExit(f"the tests fail without any mistake planted: {broken}")
        rows = []
        for mistake in chosen:
            caught = try_mistake(folder, mistake)
            rows.append((mistake, caught))
            print(f"{'caught  ' if caught else 'SURVIVED'}  {mistake.name}  {caught or ''}", flush=True)
    survivors = sum(caught is None for _, caught in rows)
    print(f"{len(rows) - survivors} of {len(rows)} caught")
    if arguments.write:
        arguments.write.write_text(as_markdown(rows))
    return 1 if survivors else 0


def as_markdown(rows: list[tuple[Mistake, str | None]]) -> str:
    """Return the list as a table."""
    caught = sum(test is not None for _, test in rows)
    lines = [
        "# Planted mistakes\n",
        f"`python scripts/mutate.py --write docs/mutations.md`: {caught} of {len(rows)} caught. Each was planted alone",
        "in `qexp/quantizers`; the test named is the first one that failed.\n",
        "| mistake | file | caught by |",
        "|---|---|---|",
        *(f"| {mistake.name} | {mistake.file} | {f'`{test}`' if test else '**survived**'} |" for mistake, test in rows),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
