"""Commands that must be refused: words, files, exit code, and what the one line on stderr has to say."""

import pickle
import shutil
from dataclasses import dataclass

import numpy as np
import torch

from support import bad_files
from support.bad_files import Intruder, Prepare, both, cifar, cifar_file, cut, photographs, record, remove, saved, text

EMPTY = np.zeros(0, np.int64)
# A set of two classes and eight images, where it is whole.
FOLDERS = (
    *("dataset=imagenet", "data_dir=data", "dataset.classes=2", "dataset.image_size=16", "dataset.resize=16"),
    *("recipe.batch_size=4", "recipe.eval_batch_size=4", "recipe.epochs=1", "model=resnet20", "model.width=0.25"),
    *("quantizer=fp", "device=cpu", "workers=0", "tracking.tensorboard=false"),
)
CIFAR = ("train", "dataset=cifar10", "data_dir=data", "recipe.batch_size=4")
SMALL = ("train", *bad_files.SMALL)


@dataclass(frozen=True)
class BadInput:
    """A command that must be refused.

    Attributes:
        name: says what is bad.
        words: behind `qexp`.
        says: is in the first line on stderr.
        code: of the exit; 1 where a run has begun, which then says so in its directory.
        prepare: makes the files that the words name, in the working directory of the command.
        lines: on stderr, one for each thing that is wrong.
    """

    name: str
    words: tuple[str, ...]
    says: str
    code: int = 2
    prepare: Prepare = lambda folder: None
    lines: int = 1


def yaml_of(target: str, place: str = "hydra: {callbacks: {x: {_target_: %s, command: mkdir intruder}}}") -> Prepare:
    """A primary configuration file in `conf` that names something to call."""
    return text("conf/mine.yaml", "defaults: [train, _self_]\n" + place % target)


WITH_MINE = ("train", "--config-dir=conf", "--config-name=mine")
LOGGER = "hydra: {job_logging: {handlers: {x: {'()': %s, command: mkdir intruder}}}}"

BAD_INPUTS: tuple[BadInput, ...] = (
    # names
    BadInput("an option that is misspelt", ("train", "quantiser=daq"), "did you mean 'quantizer'?"),
    BadInput("an option below another", ("train", "recipe.epoch=3"), "did you mean 'epochs'?"),
    BadInput("an unknown choice", ("train", "model=resnet19"), "model=resnet19: no such model"),
    BadInput("no choice at all", ("train", "quantizer=null"), "quantizer=null: no such quantizer"),
    BadInput("a choice outside the folder", ("train", "recipe=../../x"), "recipe=../../x: no such recipe"),
    BadInput("a dataset outside the folder", ("train", "dataset=../../etc/passwd"), "no such dataset"),
    BadInput("an absolute choice", ("train", "quantizer=/abs"), "quantizer=/abs: no such quantizer"),
    BadInput("a group of Hydra's outside", ("train", "hydra/launcher=../../x"), "leads out of the folder of choices"),
    BadInput("a name with dots", ("train", "dataset.name=../../x"), "dataset.name=../../x: must be a word"),
    BadInput("a name too long for a path", ("train", f"model.name={'x' * 65}"), "must be a word of at most 64"),
    BadInput("a name that another method has", ("train", "quantizer.name=fp"), "only the float network is called fp"),
    BadInput("something added that is there", ("train", "+seed=3"), "seed: is set already; leave out the +"),
    BadInput("an option below a number", ("train", "seed.sub=1"), "seed={'sub': 1}: expected an integer"),
    BadInput("an option below nothing", ("train", "data_dir.x=1"), "data_dir={'x': 1}: expected a word"),
    BadInput("an option that is deleted", ("train", "~seed"), "nothing can be deleted"),
    # values
    BadInput("bits that do not exist", ("train", "bits=99"), "bits=99: must be one of 1, 2,"),
    BadInput("an empty value", ("train", "bits="), "bits=: must be one of 1, 2,"),
    BadInput("bits that the method lacks", ("train", "quantizer=fp", "bits=4"), "has no 4-bit weights"),
    BadInput("a word for a number", ("train", "recipe.epochs=many"), "recipe.epochs=many: expected an integer"),
    BadInput("a list for a number", ("train", "seed=[1,2]"), "seed=[1, 2]: expected an integer"),
    BadInput("a word for a list", ("train", "keep_float=first"), "expected a list, such as [a,b]"),
    BadInput("no epochs", ("train", "recipe.epochs=0"), "recipe.epochs=0: must be at least 1"),
    BadInput("fewer than no epochs", ("train", "recipe.epochs=-5"), "recipe.epochs=-5: must be at least 1"),
    BadInput("a number beyond all", ("train", f"recipe.epochs={'9' * 400}"), "too large a number"),
    BadInput("a number too long to read", ("train", f"seed={'9' * 5000}"), "expected key=value"),
    BadInput("a seed beyond 63 bits", ("train", f"seed={2**63}"), f"seed={2**63}: too large a number"),
    BadInput("an infinite rate", ("train", "recipe.optimizer.weight.lr=inf"), "must be a finite number"),
    BadInput("no number", ("train", "model.width=nan"), "model.width=nan: must be a finite number"),
    BadInput("a million threads", ("train", "threads=1000000"), "threads=1000000: must be at most 1024"),
    BadInput("a reference to nothing", ("train", "seed=${nothing}"), "seed: Interpolation key 'nothing' not found"),
    BadInput("a reference to itself", ("train", "seed=${seed}"), "seed: Recursive interpolation detected"),
    BadInput("an open bracket", ("train", "keep_float=[first"), "keep_float=[first: expected key=value"),
    BadInput("brackets in brackets", ("train", f"seed={'[' * 99}{']' * 99}"), "too many brackets"),
    BadInput("a line break", ("train", "init='a\nb'"), "init='a\\nb': holds control characters"),
    BadInput(
        "a word too long for a file", ("train", f"init={'x' * 5000}"), "neither a run directory nor the hash of a run"
    ),
    BadInput("no option", ("train", "daq"), "did you mean quantizer=daq?"),
    # commands
    BadInput("a flag that is none", ("train", "--epochs=3"), "options have no dashes: epochs=VALUE"),
    BadInput("a folder that is not there", ("train", "--config-dir=nowhere"), "--config-dir nowhere: no such folder"),
    BadInput("a file that is not there", ("train", "--config-name=nosuch"), "nosuch"),
    BadInput("a sweep without -m", ("train", "bits=2,4"), "names several values; to run them all, add -m"),
    BadInput("a sweep without jobs", ("train", "-m", "seed=range(0)"), "an empty sweep has no job to run"),
    BadInput("a sweep of a billion", ("train", "-m", "seed=range(1000000000)"), "are more than 10,000"),
    BadInput("a sweep without end", ("train", "-m", "seed=range(0,1,0)"), "a range needs a step that is not 0"),
    BadInput("a sweep over Hydra", ("train", "-m", "hydra.verbose=true,false"), "the same for all jobs of a sweep"),
    BadInput("an option Hydra lacks", ("train", "hydra.nothing=1"), "hydra.nothing: no such option"),
    BadInput("a level logging lacks", ("train", "hydra.job_logging.root.level=LOUD"), "hydra.job_logging.root.level"),
    BadInput("no launcher", ("train", "-m", "hydra.launcher=null"), "hydra.launcher"),
    BadInput("no device", ("train", "device=tpu"), "device=tpu: must be auto, cpu, cuda"),
    BadInput("a CUDA device too far", ("train", "device=cuda:99"), "CUDA device"),
    BadInput("a store in a file", ("train", "runs_dir=file"), "cannot write file", prepare=text("file", "")),
    BadInput("a store below a file", ("train", "runs_dir=file/x"), "Not a directory", prepare=text("file", "")),
    BadInput("a home that is nobody's", ("train", "runs_dir='~nobody9/x'"), "runs_dir=~nobody9/x"),
    # sizes
    BadInput("a batch beyond the images", ("train", "recipe.batch_size=2000"), "the dataset has 1,437 training images"),
    BadInput("one image", ("train", "dataset.train_size=1"), "recipe.batch_size=64: the dataset has 1 training image"),
    BadInput("one image at a time", ("train", "recipe.batch_size=1"), "cannot train on a batch of 1 image of 8x8"),
    BadInput("more images than there are", ("train", "dataset.train_size=1438"), "digits has 1437 training images"),
    BadInput("a network beyond all", ("train", "model.width=1e9"), "model.width=1000000000.0: cannot be built"),
    BadInput("a network beyond memory", ("train", "model.width=1e5"), "its weights would take"),
    BadInput("images beyond memory", (*SMALL, "dataset.train_size=1000000000000"), "GB of memory"),
    BadInput("classes beyond memory", (*SMALL, "dataset.classes=1000000000000"), "GB of memory", lines=2),
    BadInput("huge images", (*SMALL, "dataset.image_size=1000000000"), "GB of memory", lines=2),
    BadInput(
        "a crop beyond the image", (*SMALL, "recipe.crop=9"), "recipe.crop=9: is more than the size of the images"
    ),
    # what must not run
    BadInput(
        "a function to call", ("train", "quantizer._target_=os.system"), "must name a quantizer in qexp.quantizers"
    ),
    BadInput("a builtin", ("train", "model._target_=builtins.eval"), "must name a model in qexp.models"),
    BadInput("a module of a module", ("train", "dataset._target_=qexp.runs.shutil.rmtree"), "must name a dataset"),
    BadInput("the command itself", ("train", "model._target_=qexp.cli.main.main"), "must name a model in qexp.models"),
    BadInput("a function beside", ("train", "model._target_=qexp.models.pretrained.fetch"), "must name a model"),
    BadInput(
        "a part of a method", ("train", "quantizer._target_=qexp.quantizers.base.Method"), "must name a quantizer"
    ),
    BadInput("a class imported there", ("train", "dataset._target_=qexp.data.npz.Path"), "must name a dataset"),
    BadInput(
        "a target elsewhere", ("train", "+recipe._target_=os.system"), "recipe._target_=os.system: unknown option"
    ),
    BadInput("a flag that eval does not have", ("eval", "--foo"), "unrecognized arguments: --foo (qexp eval --help)"),
    BadInput("a figure that is none", ("plot", "curvs"), "no figure 'curvs' (did you mean 'curves'?)"),
    BadInput("a figure of an empty store", ("plot", "curves"), "no runs in runs; --runs-dir names another store"),
    BadInput(
        "a figure in a table's file", ("plot", "curves", "--to=a.csv"), "--to a.csv: must end in .svg, .pdf, .png"
    ),
    BadInput("a figure in no folder", ("plot", "curves", "--to=no/a.svg"), "--to no/a.svg: there is no folder no"),
    BadInput("a flag that doctor does not have", ("doctor", "--foo"), "--foo (qexp doctor --help)"),
    BadInput("a pickled command", ("train", "--experimental-rerun=file"), "would run what is pickled in the file"),
    BadInput("another configuration", ("train", "--config-path=."), "qexp has its own configuration"),
    BadInput("a configuration without a name", ("train", "--config-name="), "--config-name: names nothing"),
    BadInput("a flag with a line break", ("train", "--a\nb"), "\\n"),
    BadInput(
        "help on somebody's file",
        ("train", "--help", *WITH_MINE[1:]),
        "hydra.callbacks.x._target_=os.system: ",
        prepare=yaml_of("os.system"),
    ),
    BadInput(
        "a callback", ("train", "+hydra.callbacks.x._target_=os.system"), "hydra.callbacks.x._target_=os.system: "
    ),
    BadInput("a launcher", ("train", "-m", "hydra.launcher._target_=os.system"), "hydra.launcher._target_=os.system: "),
    BadInput("a callback in a file", WITH_MINE, "hydra.callbacks.x._target_=os.system: ", prepare=yaml_of("os.system")),
    BadInput("a factory in a file", WITH_MINE, "job_logging.handlers.x.()", prepare=yaml_of("os.system", LOGGER)),
    BadInput("a way through logging", WITH_MINE, "logging.os.sys", prepare=yaml_of("logging.os.system", LOGGER)),
    BadInput("a method in a file", WITH_MINE, "quantizer", prepare=yaml_of("os.system", "quantizer: {_target_: %s}")),
    BadInput(
        "YAML that makes objects",
        WITH_MINE,
        "no valid YAML",
        prepare=yaml_of("mkdir x", "a: !!python/object/apply:os.system [%s]"),
    ),
    BadInput("code in a checkpoint", ("train", "init=file.pt"), "posix.mkdir", prepare=saved({"model": Intruder()})),
    BadInput("a plain pickle", ("train", "init=file.pt"), "file.pt", prepare=text("file.pt", pickle.dumps(Intruder()))),
    BadInput(
        "code in a file of others",
        ("eval", "checkpoint=file.pt", "format=daq"),
        "posix.mkdir",
        prepare=saved({"state_dict": {"a": Intruder()}}),
    ),
    BadInput("code in a run", ("eval", "run"), "posix.mkdir", prepare=record(checkpoint={"model": Intruder()})),
    BadInput(
        "a callable in a record",
        ("eval", "run"),
        "quantizer._target_=os.system",
        prepare=record(("quantizer._target_", "os.system")),
    ),
    BadInput(
        "objects in a record",
        ("eval", "run"),
        "run/config.yaml: is not",
        prepare=text("run/config.yaml", "a: !!python/object/apply:os.mkdir [x]"),
    ),
    # checkpoints
    BadInput("a checkpoint of text", ("train", "init=file.pt"), "not a checkpoint", prepare=text("file.pt", "hello")),
    BadInput("an empty checkpoint", ("train", "init=file.pt"), "not a checkpoint", prepare=text("file.pt", "")),
    BadInput("another network", ("train", "init=file.pt"), "missing: bn1.bias", prepare=saved({"a": torch.zeros(1)})),
    BadInput(
        "cut safetensors",
        ("train", "init=a.safetensors"),
        "it is damaged",
        prepare=text("a.safetensors", b"\x40\0\0\0\0\0\0\0{"),
    ),
    BadInput("a start that is nothing", ("train", "init=nothing"), "must be fp, scratch, torchvision"),
    BadInput("no such run", ("eval", "ffffffff"), "no run 'ffffffff'"),
    BadInput("no run at all", ("eval", ""), "no run ''"),
    BadInput("a run with a line break", ("eval", "a\nb"), "a\\nb: is too long, or holds control characters"),
    BadInput("a run of 5000 letters", ("eval", "x" * 5000), "is too long"),
    BadInput(
        "a record that is empty",
        ("eval", "run"),
        "run/config.yaml: is not the record",
        prepare=text("run/config.yaml", ""),
    ),
    BadInput("a record cut short", ("eval", "run"), "run/config.yaml", prepare=text("run/config.yaml", "recipe: {a")),
    BadInput("a record of bytes", ("eval", "run"), "run/config.yaml", prepare=text("run/config.yaml", b"\xff\xfe\x00")),
    BadInput("a run without network", ("eval", "run"), "no checkpoint at run/last.pt", prepare=record()),
    BadInput(
        "an absurd record",
        ("eval", "run"),
        "cannot be built",
        prepare=record(("model.width", 1e9), checkpoint={"a": torch.zeros(1)}),
    ),
    # images
    BadInput(
        "no test images",
        CIFAR,
        "test.npz is missing beside it",
        prepare=both(cifar(), lambda folder: (folder / "data/cifar10/test.npz").unlink()),
    ),
    BadInput("a cut npz file", CIFAR, "train.npz: is not a readable npz", prepare=cifar_file(cut)),
    BadInput(
        "an empty npz file",
        CIFAR,
        "train.npz: is not a readable npz",
        prepare=cifar_file(lambda path: path.write_bytes(b"")),
    ),
    BadInput(
        "images of floats", CIFAR, "'images' is float32", prepare=cifar(images=np.zeros((8, 32, 32, 3), np.float32))
    ),
    BadInput(
        "images of another shape",
        CIFAR,
        "expected uint8 Nx32x32x3",
        prepare=cifar(images=np.zeros((8, 3, 32, 32), np.uint8)),
    ),
    BadInput("labels of floats", CIFAR, "'labels' is float64", prepare=cifar(labels=np.zeros(8))),
    BadInput(
        "labels beyond the classes",
        CIFAR,
        "labels run from 0 to 10, expected 0 to 9",
        prepare=cifar(labels=np.arange(8) + 3 * (np.arange(8) == 7)),
    ),
    BadInput("negative labels", CIFAR, "labels run from -1", prepare=cifar(labels=np.arange(8) - 1)),
    BadInput("a label too few", CIFAR, "expected int64 8, one per image", prepare=cifar(labels=np.arange(7))),
    BadInput("no labels", CIFAR, "has no array 'labels'", prepare=cifar(labels=None)),
    BadInput(
        "no images", CIFAR, "holds no images", prepare=cifar(images=np.zeros((0, 32, 32, 3), np.uint8), labels=EMPTY)
    ),
    BadInput(
        "objects for labels", CIFAR, "'labels' is object", prepare=cifar(labels=np.array([Intruder()] * 8, object))
    ),
    BadInput("data in a file", ("train", "data_dir=data"), "data_dir=data: is a file", prepare=text("data", "")),
    BadInput(
        "a class without images",
        ("train", *FOLDERS),
        "train/cat: the folder of this class holds no images",
        prepare=photographs(remove("train/cat/*")),
    ),
    BadInput(
        "no val",
        ("train", *FOLDERS),
        "there is no folder data/imagenet/val",
        prepare=photographs(lambda root: shutil.rmtree(root / "val")),
    ),
    BadInput(
        "a class too many",
        ("train", *FOLDERS, "dataset.classes=3"),
        "has 2 class folders",
        prepare=photographs(lambda root: None),
    ),
    BadInput(
        "other classes in val",
        ("train", *FOLDERS),
        "lacks dog",
        prepare=photographs(lambda root: (root / "val/dog").rename(root / "val/emu")),
    ),
    BadInput(
        "a photograph cut short",
        ("train", *FOLDERS),
        "cat/0.JPEG: cannot be read as an image",
        1,
        photographs(lambda root: cut(root / "train/cat/0.JPEG")),
    ),
    BadInput(
        "an empty photograph",
        ("train", *FOLDERS),
        "dog/1.JPEG: cannot be read as an image",
        1,
        photographs(lambda root: (root / "train/dog/1.JPEG").write_bytes(b"")),
    ),
    # other commands
    BadInput("no such command", ("trian",), "no command 'trian' (did you mean 'train'?)"),
    BadInput("no such table", ("table", "nosuch"), "nosuch"),
    BadInput("a report of nothing", ("report",), "of what? a run, words as `qexp runs` takes them, or a table"),
    BadInput("a report in another format", ("report", "dqa/1", "--to=x.pdf"), "--to x.pdf: must end in .html"),
    BadInput(
        "a report in a file of mine",
        ("report", "dqa/1", "--to=x.html"),
        "not made by qexp report",
        prepare=text("x.html", "mine"),
    ),
    BadInput("no such run to show", ("runs", "show", "ffffffff"), "ffffffff"),
)
