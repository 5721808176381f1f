"""What TensorBoard shows of a run."""

import json
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.api_pb2 import DATA_TYPE_FLOAT64, DATA_TYPE_STRING
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from qexp.config.yaml_files import load_yaml
from qexp.figures.chart import Chart, Curve, Panel
from qexp.figures.drawing import render
from qexp.tracking.tensorboard import EVENT_FILE, TensorBoard, in_a_group
from support.commands import Sweep


@pytest.fixture(scope="module")
def events(sweep: Sweep) -> EventAccumulator:
    """The event file of the DQA run."""
    (path,) = sweep.run("dqa").rglob("*tfevents*")
    assert path.parent == sweep.run("dqa")
    accumulator = EventAccumulator(str(path), size_guidance={"tensors": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def test_the_scalars_are_those_of_the_metrics(sweep: Sweep, events: EventAccumulator) -> None:
    lines = [json.loads(line) for line in (sweep.run("dqa") / "metrics.jsonl").read_text().splitlines()]
    expected = {
        "loss/train": [line["train"]["loss"] for line in lines],
        "loss/penalty": [line["penalty"] for line in lines],
        "loss/test": [line["hard"]["loss"] for line in lines],
        "accuracy/top1_train": [line["train"]["top1"] for line in lines],
        "accuracy/top1_hard": [line["hard"]["top1"] for line in lines],
        "accuracy/top1_soft": [line["soft"]["top1"] for line in lines],
        "accuracy/top5_hard": [line["hard"]["top5"] for line in lines],
        "accuracy/quantizer_gap": [line["gap"] for line in lines],
    }
    for tag, values in expected.items():
        found = events.Scalars(tag)
        assert [event.step for event in found] == [1, 2]
        assert [event.value for event in found] == pytest.approx(values, rel=1e-6)
    assert [event.step for event in events.Scalars("loss/step")] == [1, 2, 3, 4]
    for name in ("changed", "turned_back"):
        found = events.Scalars(f"oscillation/{name}")
        assert [event.step for event in found] == [1, 2]
        assert [event.value for event in found] == pytest.approx(
            [line["oscillation"][name] for line in lines], rel=1e-6
        )


def test_learning_rates_of_every_role_and_statistics_of_every_quantizer_are_logged(events: EventAccumulator) -> None:
    tags = events.Tags()["scalars"]
    assert {"lr/weight", "lr/norm", "lr/attention"} <= set(tags)
    for layer in ("layer1.0/conv1", "layer3.2/conv2"):
        for side in ("weight", "input"):
            named = [tag for tag in tags if tag.startswith(f"quantizer {layer}/{side}/")]
            assert any("temperature" in tag for tag in named)
            assert any("attention" in tag for tag in named)
    assert not any(tag.startswith(("quantizer conv1/", "quantizer linear/")) for tag in tags)


def test_weights_are_drawn_and_the_configuration_is_shown(sweep: Sweep, events: EventAccumulator) -> None:
    tags = events.Tags()
    names = ("conv1/weight", "layer1.0/conv1.weight", "linear/weight")
    assert {f"weights {name}" for name in names} <= set(tags["histograms"])
    (text,) = events.Tensors("config/text_summary")
    shown = text.tensor_proto.string_val[0].decode()
    assert (sweep.run("dqa") / "config.yaml").read_text() in shown


def test_hparams_and_final_metrics_are_in_the_same_event_file(sweep: Sweep, events: EventAccumulator) -> None:
    data = events.PluginTagToContent("hparams")
    assert set(data) == {"_hparams_/experiment", "_hparams_/session_start_info", "_hparams_/session_end_info"}
    begin = HParamsPluginData.FromString(data["_hparams_/session_start_info"]).session_start_info.hparams
    assert (begin["quantizer"].string_value, begin["weight_bits"].number_value) == ("dqa", 2)
    config = load_yaml(sweep.run("dqa") / "config.yaml")
    assert begin["quantizer.penalty"].number_value == config["quantizer"]["penalty"]
    assert begin["recipe.optimizer.attention.lr"].number_value == config["recipe"]["optimizer"]["attention"]["lr"]
    assert begin["keep_float"].string_value == "[first,last]"
    assert (begin["protocol"].string_value, begin["epochs"].number_value) == ("paper", 2)
    assert "device" not in begin
    experiment = HParamsPluginData.FromString(data["_hparams_/experiment"]).experiment
    shown_first = {info.name for info in experiment.hparam_infos if info.differs}
    assert shown_first == {"quantizer", "weight_bits", "activation_bits", "lr", "seed"}
    # TensorBoard takes the columns of all runs from one of them: those of other methods have to be there.
    kinds = {info.name: info.type for info in experiment.hparam_infos}
    assert kinds["quantizer.weight_sigma"] == DATA_TYPE_FLOAT64
    assert kinds["quantizer.grid"] == DATA_TYPE_STRING
    assert "quantizer.weight_sigma" not in begin
    assert len(kinds) == len(experiment.hparam_infos)
    asked = experiment.metric_infos
    found = json.loads((sweep.run("dqa") / "summary.json").read_text())
    assert "result/top1_hard" in {metric.name.tag for metric in asked}
    for metric in asked:
        (event,) = events.Scalars(metric.name.tag)
        assert event.value == pytest.approx(found[metric.name.tag.removeprefix("result/")], rel=1e-6)


def test_pictures_are_images_of_the_event_file(tmp_path: Path) -> None:
    content = render(Chart("t", [Panel("", "x", "y", [Curve("a", [0, 1], [0, 1])])]), "png").content
    made = TensorBoard(
        *(tmp_path,),
        **{"config_text": "a: 1", "hyperparameters": {"seed": 0}, "step_interval": 1, "histogram_interval": 0},
        **{"stats": dict, "weights": dict, "pictures": lambda: {"figures/transfer": content}},
    )
    made.finish({"top1_hard": 50.0, "epochs_trained": 7})
    made.close()
    accumulator = EventAccumulator(str(tmp_path / EVENT_FILE))
    accumulator.Reload()
    assert accumulator.Tags()["images"] == ["figures/transfer"]
    (image,) = accumulator.Images("figures/transfer")
    with Image.open(BytesIO(content)) as drawn:
        assert (image.encoded_image_string, image.width, image.height) == (content, *drawn.size)
    assert image.step == 7
    (result,) = accumulator.Scalars("result/top1_hard")
    assert result.value == 50


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("layer1.0.conv1/weight/upper", "quantizer layer1.0/conv1/weight/upper"),
        ("layer1.0.conv1/output_scale", "quantizer layer1.0/conv1/output_scale"),
        ("conv1.weight", "quantizer conv1/weight"),
        ("features.17.conv.0.0.weight", "quantizer features.17/conv.0.0.weight"),
        ("linear/weight/clip_2", "quantizer linear/weight/clip_2"),
        ("odd", "quantizer/odd"),
    ],
)
def test_the_layers_of_a_block_are_one_group(name: str, tag: str) -> None:
    assert in_a_group("quantizer", name) == tag
