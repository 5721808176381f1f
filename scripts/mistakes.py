"""Mistakes that scripts/mutate.py plants, and the tests that have to catch them."""

from dataclasses import dataclass

OF_NUMBERS = (
    "quantizers/test_srq",
    "quantizers/test_dropbits",
    "quantizers/test_daq",
    "quantizers/test_dqa",
    "quantizers/test_br",
    "quantizers/test_grids",
    "quantizers/test_pact",
    "quantizers/test_sawb",
    "quantizers/test_ste",
    "quantizers/test_convert",
    "quantizers/test_layers",
    "quantizers/test_numerics",
    "quantizers/test_fast_forms",
    "engine/test_step",
    "quantizers/test_thresholds",
    "quantizers/test_norms",
    "quantizers/test_contract",
    "quantizers/test_codes",
    "quantizers/test_exact",
    "quantizers/test_oscillation",
    "quantizers/test_dampening",
    "quantizers/test_freezing",
    "quantizers/test_channels",
    "quantizers/test_coverage",
    "quantizers/test_layer_bits",
    "quantizers/test_rq",
    "quantizers/test_noise",
)
OF_RUNS = (
    "engine/test_divergence",
    "engine/test_checkpointer",
    "engine/test_train_state",
    "engine/test_optim",
    "engine/test_average",
    "engine/test_early_stop",
    "engine/test_step",
    "engine/test_schedules",
    "data/test_augment",
    "data/test_batches",
    "data/test_loader",
    "tracking/test_journal",
    "runs/test_store",
    "utils/test_atomic",
    "utils/test_signals",
    "experiment/test_firmness",
    "experiment/test_summary",
    "experiment/test_build",
    "experiment/test_reestimation",
    "experiment/test_runner",
    "package/test_resume",
    "package/test_damaged_runs",
    "cli/test_sweep",
    "tables/test_join",
    "config/test_trust",
    "experiment/test_own_parts",
    "experiment/test_own_functions",
    "experiment/test_pretrained_start",
    "package/test_own",
    "experiment/test_own_code",
    "data/test_photographs",
    "config/test_run_widths",
    "runs/test_measured_bits",
    "package/test_learned_widths",
)


@dataclass(frozen=True)
class Mistake:
    """One edit: in `file` below qexp/`part`, `old` (which occurs once) becomes `new`."""

    name: str
    file: str
    old: str
    new: str
    part: str = "quantizers"

    @property
    def path(self) -> str:
        """Where the edit is made."""
        return f"qexp/{self.part}/{self.file}"

    @property
    def shown(self) -> str:
        """The same for people."""
        return self.path.removeprefix("qexp/")

    @property
    def tests(self) -> tuple[str, ...]:
        """The test files that have to catch it, the nearest first: that of its module."""
        files = OF_NUMBERS if self.part == "quantizers" else OF_RUNS
        return tuple(sorted(files, key=f"{self.part}/test_{self.file.removesuffix('.py')}".__ne__))


MISTAKES = (
    Mistake("DAQ: half-up rounding", "daq.py", "return t.sub_(0.5).ceil_()", "return t.add_(0.5).floor_()"),
    Mistake("DAQ: torch.round (half to even)", "daq.py", "return t.sub_(0.5).ceil_()", "return t.round_()"),
    Mistake("DAQ: exclusive ends", "daq.py", ".eq_(t.clamp_(0, steps))", ".gt_(0).mul_(t.clamp_(0, steps).lt(steps))"),
    Mistake("DAQ: gradient beyond the range", "daq.py", "float_copy(t).eq_", "float_copy(t.clamp_(0, steps)).eq_"),
    Mistake("DAQ: missing 1/n in du", "daq.py", "dot(t, slope, lower.shape) / steps", "dot(t, slope, lower.shape)"),
    Mistake("DAQ: missing factor 2 for weights", "daq.py", "* (1 + sign) * size / width", "* size / width"),
    Mistake("DAQ: 2 sigma^2 in the kernel", "daq.py", "1 / ctx.sigma**2", "0.5 / ctx.sigma**2"),
    Mistake("DAQ: gamma missing in the slope", "daq.py", "ctx.gamma / (4 * math.sinh", "1 / (4 * math.sinh"),
    Mistake("DAQ: scale missing in the slope", "daq.py", "(1 + sign) * size / width", "(1 + sign) / width"),
    Mistake("DAQ: beta's gradient without its sign", "daq.py", "scale.sign() * (((1", "(((1"),
    Mistake("DAQ: population std of the weights", "numerics.py", "max(values.numel() - 1, 1)", "values.numel()"),
    Mistake(
        "DAQ: missing 1/std in the weight's gradient", "daq.py", "beside(factor / std, slope)", "beside(factor, slope)"
    ),
    Mistake("DAQ: beta without abs", "daq.py", "scalar(scale.abs()) / steps", "scalar(scale) / steps"),
    Mistake("DAQ: uA about zero, not the mean", "daq.py", "mean_and_std(x)[1]", "x.square().mean().sqrt()"),
    Mistake(
        "RQ: Gumbel noise with the wrong sign",
        "sampling.py",
        ".mul_(self.below[j + 1]).div_(",
        ".mul_(self.below[j + 1]).mul_(",
    ),
    Mistake(
        "RQ: temperature multiplies", "sampling.py", ".pow_(1 / self.how.temperature)", ".pow_(self.how.temperature)"
    ),
    Mistake(
        "RQ ST: alpha's gradient of the soft sample", "sampling.py", "(index if choice is None else choice)", "index"
    ),
    Mistake("RQ: points beyond the ends of the grid", "sampling.py", "if first is None or first + j == 0:", "if True:"),
    Mistake("RQ: noise of another step in the backward pass", "sampling.py", "sigma, key.clone())", "sigma, key)"),
    Mistake("RQ: evaluation draws", "rq.py", "if not self.training:", "if not self.is_soft:"),
    Mistake("relaxed: starts at the largest error", "relaxed.py", ".sum(1).argmin()", ".sum(1).argmax()"),
    Mistake("relaxed: starts by neighbouring values", "relaxed.py", "place * 2_654_435_761 % x.numel()", "place"),
    Mistake("relaxed: sigma not clamped", "relaxed.py", ".clamp(math.log(NARROWEST), math.log(WIDEST))", ""),
    Mistake("SRQ: the zero bin gets a gradient", "srq.py", "weight = upstream * k", "weight = upstream * (k + 0.1)"),
    Mistake("SRQ: mass beyond the ends counts", "srq.py", "weight.mul_(mass).div_(whole)", "weight.mul_(mass)"),
    Mistake("SRQ: alpha's own share of the point left out", "srq.py", "by_k + share * inner", "share * inner"),
    Mistake("SRQ: sigma's gradient with the other sign", "srq.py", "-share * (by_u + inner)", "share * (by_u + inner)"),
    Mistake(
        "SRQ: values far beyond the ends as they are",
        "srq.py",
        "bound = wide + FAR[precision(x)]",
        "bound = wide + 1e6",
    ),
    Mistake("SRQ: points beyond the ends in the mean", "srq.py", "(k >= low - j) & (k <= high - j)", "k == k"),
    Mistake("SRQ: mean of values below the middle as above", "expectation.py", ".mul_(u.sign())", ""),
    Mistake("SRQ: an edge too many", "expectation.py", "float(j < points)", "float(j <= points)"),
    Mistake("SRQ: signed inputs on the grid from 0", "srq.py", "most - scalar(self.signed) *", "most - 0 *"),
    Mistake("masses: the width of a run left out", "masses.py", "run.points * width / 2", "width / 2"),
    Mistake("masses: the mean k not taken off", "masses.py", "(by_k - self.by_k[0]", "(by_k - 0 * self.by_k[0]"),
    Mistake("DropBits: gates not stretched", "dropping.py", "gate * (UPPER - LOWER) + LOWER", "gate"),
    Mistake(
        "DropBits: nearest kept point",
        "dropping.py",
        "q, rho = torch.exp(-2 * delta), z / z[:, None]",
        "q, rho = torch.exp(-2 * delta), (z > 0) / (z > 0)[:, None]",
    ),
    Mistake("DropBits: 0 is dropped with the first level", "dropping.py", "return (-1, -1, *(", "return (0, -1, *("),
    Mistake("DropBits: P(Z > 0) without log 11", "dropping.py", "math.log(-LOWER / UPPER)", "0"),
    Mistake("DropBits: masks in evaluation", "dropbits.py", "return self.training\n", "return True\n"),
    Mistake("DropBits: a hole does not end the width", "dropbits.py", ".cumprod(0)", ""),
    Mistake("DropBits: frozen logits go on", "dropbits.py", "self.logits.detach() if self.is_frozen else", ""),
    Mistake("DropBits: frozen widths pay on", "dropbits.py", "if not own.is_frozen]", "]"),
    Mistake(
        "DropBits: frozen one step early", "dropbits.py", "progress.step > self.until", "progress.step >= self.until"
    ),
    Mistake("DropBits: penalty of the whole net in every layer", "dropbits.py", "1 / layer.layers if", "1 if"),
    Mistake(
        "noise: the same in every step",
        "noise.py",
        "(*self._place, self.step, whole(part))",
        "(*self._place, whole(part))",
    ),
    Mistake(
        "RQ: far values as they are", "sampling.py", "dot(by_x, self._within_reach())", "dot(by_x, self.x / self.sigma)"
    ),
    Mistake("noise: the same in every layer", "noise.py", "(whole(seed), layer, side)", "(whole(seed), side)"),
    Mistake(
        "noise: by place in memory",
        "noise.py",
        "if like.dim() == 4:",
        "if like.dim() == 4 and not like.is_contiguous():",
    ),
    Mistake("DQA: temperature starts at b = 0", "dqa.py", "** (progress.step /", "** ((progress.step - 1) /"),
    Mistake("DQA: population std of alpha", "dqa.py", "alpha.std(-1", "alpha.std(-1, correction=0"),
    Mistake("DQA: std outside the graph", "dqa.py", "alpha.std(-1", "alpha.detach().std(-1"),
    Mistake("DQA: temperature multiplies", "dqa.py", ".clamp_min(TINY) / temp", ".clamp_min(TINY) * temp"),
    Mistake("DQA: costs 1, 4, 8", "dqa.py", "COSTS = (1.0, 4.0, 16.0)", "COSTS = (1.0, 4.0, 8.0)"),
    Mistake("DQA: initial attention upside down", "dqa.py", "1 - widths / widths.sum()", "widths / widths.sum()"),
    Mistake("mix: gradient of the weights without offset", "functional.py", " + whole * grid.offset", ""),
    Mistake("mix: a wrong offset", "functional.py", "offset = sum(", "offset = -numbers[0] * grids[0].offset + sum("),
    Mistake(
        "eq. 13 as printed, without offset", "grids.py", "steps_above(x, lower, step)", "steps_above(x, 0.0, step)"
    ),
    Mistake(
        "uniform: 2^n steps, not 2^n - 1",
        "grids.py",
        "steps = self.levels - 1\n        step",
        "steps = self.levels\n        step",
    ),
    Mistake("BWN: sign(0) = 0", "grids.py", ".ge_(0), 2 * upper, lower", ".sign_(), upper, 0.0"),
    Mistake("TWN: mean over all entries", "numerics.py", "as_double(above).sum().clamp_min(1)", "above.numel()"),
    Mistake("TWN: threshold 0.75", "ranges.py", "TERNARY_THRESHOLD = 0.7 ", "TERNARY_THRESHOLD = 0.75 "),
    Mistake("SAWB: c2 with the wrong sign", "sawb.py", ".sqrt() - c2 * size", ".sqrt() + c2 * size"),
    Mistake("SAWB: centred standard deviation", "sawb.py", "size.square().mean().sqrt()", "weight.std(correction=0)"),
    Mistake("SAWB: search with absolute error", "sawb.py", ".sub_(values).square_()", ".sub_(values).abs_()"),
    Mistake("SAWB: clip never refreshed", "sawb.py", "refresh_interval = 100", "refresh_interval = None"),
    Mistake("PACT: no gradient to alpha at x = alpha", "functional.py", ".ge_(high)", ".gt_(high)"),
    Mistake("PACT: gradient passes above alpha", "functional.py", ".add_(float_copy(x).gt_(high))", ""),
    Mistake(
        "PACT: gradient stops at x = alpha",
        "functional.py",
        ".add_(float_copy(x).gt_(high))",
        ".add_(float_copy(x).ge_(high))",
    ),
    Mistake("PACT: full precision in a mix is clipped", "functional.py", "if clip and not all(clipped)", "if False"),
    Mistake("BR: omega one epoch off", "br.py", "progress.epoch /", "(progress.epoch + 1) /"),
    Mistake("BR: mix does not add up to 1", "br.py", "(omega + len(self.grids) - 1)", "(omega + len(self.grids))"),
    Mistake("running range used while training", "ranges.py", "if self.training else", "if False else"),
    Mistake("batch range used in evaluation", "ranges.py", "if self.training else", "if True else"),
    Mistake(
        "running range counts a batch twice", "layers.py", "input_quantizer.requantize, input", "input_quantizer, input"
    ),
    Mistake("layout: a tensor with gaps read as one row", "numerics.py", "return x.contiguous()", "return x"),
    Mistake("layout: a gradient in its own", "numerics.py", "x.stride() == like.stride() else", "True else"),
    Mistake("straight through: rounded", "base.py", "return value.clone()", "return x + (value - x)"),
    Mistake("cached weights: no gradient behind them", "convert.py", "        if graded:\n", "        if False:\n"),
    Mistake(
        "codes: moments in single precision",
        "numerics.py",
        "_double_copy(_row(dense(x)))\n    mean",
        "float_copy(_row(dense(x)))\n    mean",
    ),
    Mistake(
        "codes: BWN's mean in single precision",
        "numerics.py",
        "_double_copy(_row(dense(x))).abs_().mean()",
        "float_copy(_row(dense(x))).abs_().mean()",
    ),
    Mistake(
        "codes: DAQ's position as one product and sum",
        "daq.py",
        "return torch.sub(x, standard[0]).div_(standard[1]).sub_(beside(lower, x)).div_(beside(delta, x))",
        "return x.mul(1 / (standard[1] * delta)).sub_((standard[0] / standard[1] + lower) / delta)",
    ),
    Mistake(
        "codes: a uniform grid multiplies by 1 / step",
        "numerics.py",
        "torch.sub(x, beside(lower, x)).div_(beside(step, x))",
        "torch.sub(x, beside(lower, x)).mul_(beside(1 / step, x))",
    ),
    Mistake(
        "exact: a scale inside of the sum",
        "exact_forms.py",
        "        total.mul_(beside(scale * self.weight_scale, total))",
        "        total = self.layer.apply_operation(integers * float(scale * self.weight_scale), self.weight, None)",
    ),
    Mistake(
        "exact: float layers in single precision",
        "exact.py",
        "if isinstance(module, nn.Conv2d | nn.Linear):",
        "if False:",
    ),
    Mistake(
        "exact: one power of two for a batch",
        "exact_forms.py",
        "FixedPoint.of(x, self.bits)",
        "FixedPoint.of(x[None], self.bits)._replace(integers=FixedPoint.of(x[None], self.bits).integers[0])",
    ),
    Mistake(
        "exact: bits for twice as many products",
        "sums.py",
        "(DOUBLE - log2(terms)) / 2",
        "(DOUBLE + 12 - log2(terms)) / 2",
    ),
    Mistake("exact: sums beyond 24 bits in one piece", "sums.py", "while largest > limit:", "while False:"),
    Mistake(
        "exact: offsets of weights left out", "exact_forms.py", "isinstance(self.weight_offset, Tensor) or", "False and"
    ),
    Mistake(
        "exact: padding taken for a value",
        "exact_forms.py",
        "ones = integers.new_ones(1, *integers.shape[1:])",
        "ones = 2 * integers.new_ones(1, *integers.shape[1:])",
    ),
    Mistake(
        "channels: axis of a transposed convolution", "channels.py", "axis = 1 if isinstance", "axis = 0 if isinstance"
    ),
    Mistake("channels: groups share no numbers", "channels.py", ".repeat(groups)", ".repeat_interleave(groups)"),
    Mistake(
        "channels: a range of all of them",
        "numerics.py",
        "as_float(x.amin(other_axes(shape), keepdim=True))",
        "x.min()",
    ),
    Mistake("channels: one count of those above", "numerics.py", "above.sum(axes, keepdim=True)", "above.sum()"),
    Mistake("channels: one gradient for all ranges", "daq.py", "dot(t, slope, lower.shape)", "dot(t, slope)"),
    Mistake("channels: codes without scales", "functional.py", "return dot(grid.to_levels(x), grad)", "pass"),
    Mistake(
        "channels: places of another row",
        "channels.py",
        "by_channel = x.movedim(axis, 0)",
        "by_channel = x.flip(axis).movedim(axis, 0)",
    ),
    Mistake("channels: dampening by codes of all", "channels.py", "codes.long() + count *", "codes.long() + 0 *"),
    Mistake("mean bits: of layers", "coverage.py", "(one.weight_bits, one.weights)", "(one.weight_bits, 1)"),
    Mistake(
        "mean bits: float layers count",
        "coverage.py",
        "for one in self.layers if one.input_bits != FLOAT_BITS",
        "for one in self.layers",
    ),
    Mistake("channels: scales cost nothing", "inspection.py", "scales * FLOAT_BITS / 8", "scales * 0"),
    Mistake("exact: given codes forgotten", "exact_forms.py", "form.codes.copy_(codes)", "pass"),
    Mistake(
        "exact: NNPACK's transforms",
        "exact.py",
        "torch.backends.nnpack.flags(enabled=False)",
        "torch.backends.nnpack.flags(enabled=True)",
    ),
    Mistake("digest: without the names of layers", "codes.py", 'f"{name} {tuple', 'f"{tuple'),
    Mistake("codes: the first of a byte alone compared", "codes.py", "& (2**bits - 1)", "& 1"),
    Mistake(
        "dampening: DAQ's weights to the centers of bins", "dampening.py", "if quantizer.is_scale_free:", "if False:"
    ),
    Mistake("oscillation per step: any change turns back", "oscillation.py", "& is_up.ne(self.is_up)", ""),
    Mistake("oscillation per step: directions are forgotten", "oscillation.py", "is_up, self.is_up)", "is_up, is_up)"),
    Mistake(
        "oscillation per step: steps of the epoch before count",
        "oscillation.py",
        "self._steps, None",
        "self._steps, self._watch",
    ),
    Mistake(
        "oscillation per step: a state forgets how many steps",
        "oscillation.py",
        'self._steps = int(watch["steps"])',
        "self._steps = 1",
    ),
    Mistake("oscillation: codes of a width that changes", "codes.py", "codes + shift if shift else codes", "codes"),
    Mistake("oscillation: any change turns back", "oscillation.py", "(now * direction).lt(0)", "changed"),
    Mistake(
        "oscillation: only a change in the step before counts",
        "oscillation.py",
        "torch.where(changed, now, direction)",
        "now",
    ),
    Mistake(
        "dampening: not clipped to the range",
        "dampening.py",
        "torch.clamp(weight, centers[..., 0], centers[..., -1])",
        "weight",
    ),
    Mistake("freezing: at the latest code", "freezing.py", "self.average.round().to(torch.uint8)", "codes"),
    Mistake(
        "freezing: decay moves frozen weights", "freezing.py", "self._before.pop(name), weight))", "weight, weight))"
    ),
    Mistake(
        "freezing: frozen weights take a gradient", "freezing.py", ".masked_fill_(self.history[name].frozen, 0)", ""
    ),
    Mistake("norms: of the relaxed network", "norms.py", "    model.eval()\n", "    model.train()\n"),
    Mistake("norms: the same epoch over and over", "reestimation.py", "        epoch += 1\n", "", "experiment"),
    Mistake(
        "norms: the network before is kept", "reestimation.py", "    replace_network(path", "    str(path", "experiment"
    ),
    Mistake(
        "resume: freezing forgotten",
        "step.py",
        'self.freezing.load_state_dict(state["freezing"])',
        "pass",
        "engine",
    ),
    Mistake(
        "resume: codes of the epoch before forgotten",
        "train_state.py",
        'self.oscillation.load_state_dict(state["oscillation"])',
        "pass",
        "engine",
    ),
    Mistake(
        "dampening: added for every part of a batch",
        "step.py",
        "self.penalty() if part.is_last else 0.0",
        "self.penalty()",
        "engine",
    ),
    Mistake(
        "resume: momentum forgotten",
        "step.py",
        'self.optimizers.load_state_dict(state["optimizers"])',
        "pass",
        "engine",
    ),
    Mistake("resume: scaler forgotten", "step.py", 'self._scaler.load_state_dict(state["scaler"])', "pass", "engine"),
    Mistake(
        "resume: generators forgotten", "train_state.py", 'restore_random_state(state["random"])', "pass", "engine"
    ),
    Mistake(
        "resume: sums of the epoch forgotten",
        "train_state.py",
        'self.tally.load_state_dict(state["tally"])',
        "pass",
        "engine",
    ),
    Mistake(
        "resume: chance forgotten",
        "train_state.py",
        'self.chance.stuck_after, state["chance"])',
        "self.chance.stuck_after)",
        "engine",
    ),
    Mistake(
        "resume: last record forgotten",
        "train_state.py",
        'None if state["last"] is None else _record(state["last"])',
        "None",
        "engine",
    ),
    Mistake(
        "resume: epoch from its beginning",
        "loop.py",
        "batches.epoch(epoch, state.done - epoch * per_epoch)",
        "batches.epoch(epoch)",
        "engine",
    ),
    Mistake("resume: best epoch forgotten", "checkpointer.py", ' = self.found["best"]', " = -1.0, -1.0, 0", "engine"),
    Mistake(
        "resume: best.pt of epochs trained again", "checkpointer.py", "        self._choose_best()\n", "", "engine"
    ),
    Mistake(
        "resume: clips searched again",
        "checkpointer.py",
        "        self._choose_best()\n",
        '        self._choose_best()\n        prepare(self.found["training"]["done"])\n',
        "engine",
    ),
    Mistake(
        "resume: logs not cut back",
        "journal.py",
        "os.ftruncate(descriptor, at)\n    os.lseek(descriptor, at, os.SEEK_SET)",
        "os.lseek(descriptor, 0, os.SEEK_END)",
        "tracking",
    ),
    Mistake("checkpoint: written in place", "atomic.py", 'path.with_name(path.name + ".tmp")', "path", "utils"),
    Mistake("checkpoint: not synced", "atomic.py", "        sync(file.fileno())\n", "", "utils"),
    Mistake(
        "checkpoint: checksums not compared", "weights.py", "broken = archive.testzip()", "broken = None", "engine"
    ),
    Mistake("checkpoint: the one before not kept", "checkpointer.py", "previous=kept)", "previous=None)", "engine"),
    Mistake(
        "checkpoint: of another run accepted",
        "checkpointer.py",
        "if differing := option_differences(self.identity, found):",
        "if False:",
        "engine",
    ),
    Mistake(
        "checkpoint: steps ignored", "checkpointer.py", "by_steps = self.steps and", "by_steps = False and", "engine"
    ),
    Mistake(
        "checkpoint: ruined weights written",
        "checkpointer.py",
        "        check_training(state.model, state.step.guard,",
        "        (lambda *_: None)(state.model, state.step.guard,",
        "engine",
    ),
    Mistake(
        "signal: waits for an evaluation",
        "evaluate.py",
        "lambda: session.stop.pausing(session.test_batches.epoch(0))",
        "lambda: session.test_batches.epoch(0)",
        "experiment",
    ),
    Mistake(
        "signal: state not saved",
        "loop.py",
        "    except Interrupted:\n        checkpointer.save(state)\n",
        "    except Interrupted:\n",
        "engine",
    ),
    Mistake(
        "signal: second Ctrl-C waits",
        "signals.py",
        "                raise KeyboardInterrupt\n",
        "                return\n",
        "utils",
    ),
    Mistake("signal: SIGTERM exits with 130", "errors.py", "else 143", "else 130", "utils"),
    Mistake(
        "signal: ignored ones taken",
        "signals.py",
        "if signal.getsignal(number) != signal.SIG_IGN:",
        "if True:",
        "utils",
    ),
    Mistake("divergence: update before the look", "step.py", "        self.guard.see(total.detach())\n", "", "engine"),
    Mistake(
        "divergence: only the latest bad step", "divergence.py", "(self._first[0] < 0) & ~torch", "~torch", "engine"
    ),
    Mistake("divergence: judged by one epoch", "divergence.py", "WINDOW = 5", "WINDOW = 1", "engine"),
    Mistake(
        "overwrite: results removed last",
        "store.py",
        'entry.name != "summary.json", entry.suffix != ".pt"',
        'entry.name == "summary.json", entry.suffix == ".pt"',
        "runs",
    ),
    Mistake(
        "done: only if the status says so",
        "runner.py",
        "if summary and not config.overwrite:",
        'if summary and before == "done" and not config.overwrite:',
        "experiment",
    ),
    Mistake(
        "sweep: on_error=stop goes on",
        "train.py",
        'job.checked.on_error == "stop"',
        'job.checked.on_error == "never"',
        "cli",
    ),
    Mistake(
        "sweep: on_error=stop goes on elsewhere",
        "sweep.py",
        'end.outcome.state in FAILED and config.on_error == "stop"',
        'end.outcome.state in FAILED and config.on_error == "never"',
        "cli",
    ),
    Mistake(
        "threshold: the next one below, not the nearest",
        "thresholds.py",
        "thresholds[..., :-1]) / 2",
        "thresholds[..., :-1])",
    ),
    Mistake("threshold: distance in units of the weight", "thresholds.py", ".abs_().div_(bins.step)", ".abs_()"),
    Mistake(
        "threshold: the other side is always above", "thresholds.py", "(2 * nearest + 1).sub_(codes)", "nearest + 1"
    ),
    Mistake(
        "draw: every weight changes sides",
        "thresholds.py",
        "torch.where(coins, near.others",
        "torch.where(coins | True, near.others",
    ),
    Mistake("batch norm: a moving average, not a plain one", "norms.py", "norm.momentum = None", "norm.momentum = 0.1"),
    Mistake("batch norm: estimated statistics stay", "norms.py", "buffer.copy_(buffers[name])", "buffer.copy_(buffer)"),
    Mistake(
        "firmness: every draw the same",
        "firmness.py",
        "DRAWN, coins)",
        "DRAWN, coins.manual_seed(seed))",
        "experiment",
    ),
    Mistake(
        "firmness: the network as it is left out of the spread",
        "firmness.py",
        "max(undrawn, *top1)",
        "max(top1)",
        "experiment",
    ),
    Mistake(
        "tables: a spread only counts above 0.3 points",
        "join.py",
        "min(FIRM, abs(difference))",
        "max(FIRM, abs(difference))",
        "tables",
    ),
    Mistake(
        "clip: the norm of scaled gradients", "optim.py", "norm / scaler.scale(torch.ones_like(norm))", "norm", "engine"
    ),
    Mistake(
        "clip: an overflow in one optimizer moves the others",
        "optim.py",
        "        if scaler.is_enabled():\n",
        "        if False:\n",
        "engine",
    ),
    Mistake(
        "average: without running statistics", "average.py", ".parameters()), *statistics]", ".parameters())]", "engine"
    ),
    Mistake(
        "average: as slow at the beginning",
        "average.py",
        "return min(decay, (1 + update) / (10 + update))",
        "return decay",
        "engine",
    ),
    Mistake(
        "average: the trained weights are evaluated",
        "average.py",
        "        self.settle()\n        try:",
        "        try:",
        "engine",
    ),
    Mistake(
        "resume: goes on with the average",
        "average.py",
        '        _copy(state["trained"], self._values())\n',
        "",
        "engine",
    ),
    Mistake(
        "early stop: as good is better", "early_stop.py", "held_out.top1 <= self", "held_out.top1 < self", "engine"
    ),
    Mistake(
        "resume: the best held-out accuracy forgotten",
        "train_state.py",
        "EarlyStop(self.early_stop.patience, top1, epoch)",
        "EarlyStop(self.early_stop.patience)",
        "engine",
    ),
    Mistake(
        "best network: chosen by the test all the same",
        "checkpointer.py",
        "(record.held_out or record.hard).top1",
        "record.hard.top1",
        "engine",
    ),
    Mistake("held out: trained on all the same", "loader.py", "self.train.where(~chosen)", "self.train", "data"),
    Mistake("mixup: labels are not mixed", "augment.py", "one_hot.roll(1, 0)", "one_hot", "data"),
    Mistake(
        "mixup: other shares after a restart",
        "augment.py",
        "self._batches.epoch(epoch, start), start):\n            # Not",
        "self._batches.epoch(epoch, start)):\n            # Not",
        "data",
    ),
    Mistake(
        "RandAugment: takes torch's own random numbers",
        "augment.py",
        "with torch.random.fork_rng(devices=[]):\n        found",
        "with torch.no_grad():\n        found",
        "data",
    ),
    Mistake(
        "own augmentation: other draws after a restart",
        "augment.py",
        "self._batches.epoch(epoch, start), start):\n            seed",
        "self._batches.epoch(epoch, start)):\n            seed",
        "data",
    ),
    Mistake(
        "own augmentation: takes torch's own random numbers",
        "augment.py",
        "with torch.random.fork_rng(devices=[]):\n                torch",
        "with torch.no_grad():\n                torch",
        "data",
    ),
    Mistake(
        "restarts: a segment ends with training",
        "schedules.py",
        "min((restart for restart in restarts if restart > done), default=1.0)",
        "1.0",
        "engine",
    ),
    Mistake(
        "own schedule: not used",
        "train.py",
        "own_schedule=own_schedule(config)",
        "own_schedule=None",
        "experiment",
    ),
    Mistake(
        "pretrained: a layer of any other shape is made anew",
        "pretrained_start.py",
        "return all(has == wants for",
        "return any(True for",
        "experiment",
    ),
    Mistake(
        "pretrained: made anew where it fits",
        "pretrained_start.py",
        "or theirs == ours:",
        "or theirs is ours:",
        "experiment",
    ),
    Mistake(
        "pretrained: weights are known by their path",
        "identity.py",
        'found["model"].pop("pretrained", None)',
        'found["model"].pop("digest", None)',
        "config",
    ),
    Mistake("trust: every package may be imported", "trust.py", "if package in names:", "if package:", "config"),
    Mistake("trust: every name is looked for", "trust.py", " or fullname not in trusted()", "", "config"),
    Mistake(
        "own parts: nobody asks whether they are trusted",
        "own_parts.py",
        "trust_problem(target) or _absent(target)",
        "_absent(target)",
        "experiment",
    ),
    Mistake(
        "own code: imports of the package are not followed",
        "own_code.py",
        "waiting += _imports(",
        "_ = _imports(",
        "experiment",
    ),
    Mistake(
        "folder: a split by chance that is another one in every process",
        "photographs.py",
        "np.random.RandomState([self.split_seed, label])",
        "np.random",
        "data",
    ),
    Mistake(
        "bits: a result has those that it began with",
        "summary.py",
        "now = quantizers.present_coverage(model, coverage)",
        "now = coverage",
        "experiment",
    ),
    Mistake(
        "bits: a label tells the mean of layers that differ as if all had it",
        "measured_bits.py",
        "if is_mixed or mean != round(mean)",
        "if mean != round(mean)",
        "runs",
    ),
    Mistake("widths of a run: names are patterns", "run_widths.py", "else glob.escape(name)", "else name", "config"),
    Mistake(
        "widths of a run: of any network",
        "run_widths.py",
        "if key not in _OF_WEIGHTS and theirs.get(key) != ours.get(key):",
        "if False:",
        "config",
    ),
    Mistake("sweep: failures exit with 0", "closing.py", "    return 3\n\n\ndef", "    return 0\n\n\ndef", "cli"),
)
