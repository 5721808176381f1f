"""Step times against the float network's, the literal formulas' and Brevitas'."""

import importlib.util
from collections.abc import Iterator, Sequence

from measure import Row, interleaved, ratio
from networks import DEVICE, Trainee

GRIDS = ("minmax", "sawb", "twn")
GOALS = {
    "daq": {16: 1.4, 64: 1.25},
    "ste": {64: 1.2},
    "br": {64: 1.35},
    "dqa": {64: 1.5},
    "rq": {64: 3.0},
    "srq": {64: 1.5},
}
OF_WEIGHTS = {"rq": 1.3, "srq": 1.15}  # weights alone, batches of 64; 1.08 of all others
ON_CUDA = ("compile=true", "recipe.precision=bfloat16")


def cases() -> dict[str, tuple[str, ...]]:
    """Return name -> words of every quantized network."""
    found = {f"{name} W2A2": (f"quantizer={name}", "bits=2") for name in GOALS}
    weights_only = ("weight_bits=2", "activation_bits=32")
    found |= {f"{name} W2A32": (f"quantizer={name}", *weights_only) for name in ("daq", "rq", "srq")}
    found["dropbits W3A3"] = ("quantizer=dropbits", "bits=3")
    for name in ("ste", "br", "dqa"):
        for grid in GRIDS:
            found[f"{name} {grid} W2A32"] = (f"quantizer={name}", f"quantizer.grid={grid}", *weights_only)
        found[f"{name} bwn W1A32"] = (f"quantizer={name}", "quantizer.grid=bwn", "weight_bits=1", "activation_bits=32")
    return found


def goal_of(name: str, size: int) -> float | None:
    """Return the goal of a case, if it has one."""
    if DEVICE.type == "cuda":
        return 1.3 if name.startswith("dqa") else 1.15
    if name.endswith("A32"):
        return OF_WEIGHTS.get(name.split()[0], 1.08) if size == 64 else None
    return GOALS.get(name.split()[0], {}).get(size)


def against_float(
    sizes: tuple[int, ...], repeats: int, names: Sequence[str] | None = None, *, fused: bool = DEVICE.type == "cuda"
) -> Iterator[Row]:
    """Yield the ratios of all networks, or of those named, to the float network, all in turns.

    Both compiled and in bfloat16 where `fused`, else as they are by default.
    """
    section, common = ("step", ON_CUDA) if fused else ("step" if DEVICE.type == "cpu" else "eager", ())
    chosen = {name: words for name, words in cases().items() if names is None or name in names}
    for size in sizes:
        everything = {"float": ("quantizer=fp",)} | chosen
        trainees = {name: Trainee(*words, *common, size=size) for name, words in everything.items()}
        times = interleaved(trainees, repeats)
        for name in chosen:
            value, detail = ratio(times, name, "float")
            goal = None if section == "eager" else goal_of(name, size)
            yield Row(section, f"{name} / float, batch {size}", value, goal, detail=detail)


def against_others(sizes: tuple[int, ...], repeats: int) -> Iterator[Row]:
    """Yield how much faster DAQ is than its literal formulas and than Brevitas' 2-bit layers."""
    goals = {("literal", 64): 3.5, ("literal", 16): 6.0, ("brevitas", 64): 1.8, ("brevitas", 16): 1.9}
    has_brevitas = importlib.util.find_spec("brevitas") is not None
    for size in sizes:
        trainees = {
            "float": Trainee("quantizer=fp", size=size),
            "qexp": Trainee("quantizer=daq", "bits=2", size=size),
            "literal": Trainee("quantizer=daq", "bits=2", size=size, form="literal"),
        }
        if has_brevitas:
            trainees["brevitas"] = Trainee("quantizer=fp", size=size, form="brevitas")
        times = interleaved(trainees, repeats)
        for other in ("literal", "brevitas"):
            name, goal = f"{other} / daq W2A2, batch {size}", goals.get((other, size))
            if other not in times:
                yield Row("others", name, float("nan"), goal, True, "not installed: pip install 'qexp[bench]'")
                continue
            value, detail = ratio(times, other, "qexp")
            whole, _ = ratio(times, other, "float")
            yield Row("others", name, value, goal, True, f"{detail}; {whole:.2f} float steps")


def compiled(size: int, repeats: int) -> Iterator[Row]:
    """Yield what torch.compile makes of float and DAQ networks on this device, in float32."""
    words = {
        "float": ("quantizer=fp",),
        "daq W2A2": ("quantizer=daq", "bits=2"),
        "dqa W2A2": ("quantizer=dqa", "bits=2"),
    }
    trainees = {
        f"{name} {mode}": Trainee(*own, f"compile={mode == 'compiled'}", size=size)
        for name, own in words.items()
        for mode in ("eager", "compiled")
    }
    times = interleaved(trainees, repeats, warmup=3)
    for name in words:
        value, detail = ratio(times, f"{name} compiled", f"{name} eager")
        yield Row("compiled", f"{name} compiled / eager, batch {size}", value, detail=detail)
    for name in list(words)[1:]:
        value, detail = ratio(times, f"{name} compiled", "float compiled")
        yield Row("compiled", f"{name} compiled / float compiled, batch {size}", value, detail=detail)
