"""The promises of a model card: the Hub parses it, it states what was measured and nothing that was not.
Oracle: huggingface_hub's own card classes."""

from __future__ import annotations

import copy

import pytest
import yaml
from huggingface_hub import ModelCard

from resnet_hub import create_model
from resnet_hub.card import card_results, render_card
from resnet_hub.hub import Calibration

LABELS = ("cat", "dog", "ship")
RESULTS = {
    "images": 1234,
    "top1": 0.8761,
    "top5": 0.9912,
    "top1_flip_tta": 0.8843,
    "loss": 0.4321,
    "calibration_error": 0.0123,
    "calibration_error_uncalibrated": 0.0456,
    "per_class": [0.915, 0.725, 0.871],
    "confusion": [[366, 20, 14], [90, 290, 20], [30, 26, 378]],
    "false_alarms": 0.0517,
}
RECIPE = {
    "name": "fast", "optimizer": "muon", "lr": 0.123, "muon_lr": 0.0456, "weight_decay": 0.00078,
    "warmup": 0.21, "label_smoothing": 0.067, "ema": 0.987, "low_res": 24, "low_res_until": 0.55,
}  # fmt: skip
FACTS = {
    "name": "my_run",
    "command": "python -m training.cifar resnet20_cifar --data photos --out my_run",
    "data": "CIFAR-10 re-encoded as JPEG",
    "train_images": 45017,
    "held_out_images": 5003,
    "recipe": RECIPE,
    "seed": 17,
    "precision": "bfloat16",
    "epochs_run": 36,
    "best_epoch": 35,
    "train_loss": 0.3579,
    "train_acc": 0.9137,
    "val_loss": 0.4468,
    "val_acc": 0.8813,
    "seconds": 2871.0,
    "pflops": 0.3147,
    "hardware": "a made-up processor, 2 cores",
    "versions": {"python": "3.11.9", "torch": "2.15.0"},
    "results": RESULTS,
}
STATED = {name: RESULTS[name] for name in ("top1", "top5", "top1_flip_tta", "calibration_error")}


def trained():
    model = create_model("resnet20_cifar", num_classes=3)
    model.labels = LABELS
    model.calibration = Calibration(1.2345, 2.3456, 0.0517, (("ants and bees", 244, 0.4139),))
    return model


@pytest.fixture(scope="module")
def text() -> str:
    return render_card(trained(), FACTS, load_from="somebody/my_run")


@pytest.fixture(scope="module")
def bare_text() -> str:
    return render_card(create_model("resnet20_cifar"), load_from="somebody/fresh")


def front_matter(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def leaves(value) -> list:
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in leaves(inner)]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in leaves(inner)]
    return [value]


@pytest.mark.parametrize("which", ["text", "bare_text"])
def test_front_matter_says_what_the_hub_needs_and_has_no_empty_field(which, request):
    fields = front_matter(request.getfixturevalue(which))
    assert fields["pipeline_tag"] == "image-classification" and fields["library_name"] == "resnet_hub"
    assert fields["license"] == "mit"
    assert all(leaf not in (None, "", "None") for leaf in leaves(fields))


@pytest.mark.parametrize("which", ["text", "bare_text"])
def test_no_placeholder_is_left(which, request):
    text = request.getfixturevalue(which)
    for placeholder in ("More Information Needed", "{{", "}}", "{%", "None", "nan", "TODO", "OWNER/NAME"):
        assert placeholder not in text


def test_card_survives_the_hubs_own_reader_and_writer(text, tmp_path):
    (tmp_path / "README.md").write_text(text)
    card = ModelCard.load(tmp_path / "README.md")
    card.save(tmp_path / "again.md")
    assert ModelCard.load(tmp_path / "again.md").data.to_dict() == card.data.to_dict()
    assert card.text.strip().startswith("# resnet20_cifar, trained on CIFAR-10 re-encoded as JPEG")


def test_model_index_states_the_measured_figures_on_the_test_part(text):
    (entry,) = front_matter(text)["model-index"]
    assert entry["name"] == "my_run"
    values = {m["name"]: m["value"] for result in entry["results"] for m in result["metrics"]}
    assert set(values.values()) == set(STATED.values())
    assert values["Top-1 accuracy"] == 0.8761
    assert {result["dataset"]["split"] for result in entry["results"]} == {"test"}


def test_stated_figures_can_be_read_back(text, tmp_path):
    (tmp_path / "README.md").write_text(text)
    assert card_results(tmp_path / "README.md") == STATED


def test_no_card_states_nothing(tmp_path):
    assert card_results(tmp_path / "README.md") == {}


@pytest.mark.parametrize(
    "row",
    [
        "| top-1 accuracy | 87.61 % |",
        "| top-1 with flip test-time augmentation | 88.43 % |",
        "| top-5 accuracy | 99.12 % |",
        "| cross entropy, calibrated | 0.4321 |",
        "| expected calibration error, 15 bins, calibrated | 1.23 % |",
        "| the same before calibration | 4.56 % |",
        "| dog | 72.5 % |",
        "| **dog** | 90 | 290 | 20 |",
    ],
)
def test_tables_state_the_figures(text, row):
    assert row in text.splitlines()


@pytest.mark.parametrize(
    "fact",
    [
        "1,234 test pictures of CIFAR-10 re-encoded as JPEG",
        "45,017", "5,003", "seed 17", "36 epochs", "epoch 35", "88.13 %",
        "0.123", "0.0456", "0.00078", "21 %", "0.067", "0.987", "24x24", "55 %",
        "0.315 PFLOPs", "2,871 seconds", "bfloat16", "a made-up processor", "torch 2.15.0", "python 3.11.9",
        "python -m training.cifar resnet20_cifar --data photos --out my_run",
        "temperature of 1.2345", "2.3456", "5.17 %", "ants and bees", "244", "41.39 %",
    ],
)  # fmt: skip
def test_text_states_the_fact(text, fact):
    assert fact in text


@pytest.mark.parametrize(("share", "admitted"), [(0.4139, True), (0.93, False)])
def test_card_admits_where_most_strange_pictures_pass_unnoticed(share, admitted):
    model = trained()
    model.calibration = Calibration(1.0, 2.0, 0.05, (("ants and bees", 244, share),))
    assert ("misses most of them" in render_card(model, FACTS, load_from="x/y")) is admitted


def test_sgd_run_does_not_mention_muon():
    facts = copy.deepcopy(FACTS)
    facts["recipe"] |= {"optimizer": "sgd", "low_res": 0}
    text = render_card(trained(), facts, load_from="x/y")
    assert "Muon" not in text and "24x24" not in text


def test_card_of_an_untrained_network_has_no_results(bare_text):
    assert "model-index" not in front_matter(bare_text)
    for heading in ("## Results", "## How it was trained", "## Calibration"):
        assert heading not in bare_text
    assert "were not trained" in bare_text


def test_card_says_how_to_load_it(text, bare_text):
    assert 'resnet_hub.from_pretrained("somebody/my_run")' in text
    assert 'resnet_hub.from_pretrained("somebody/fresh")' in bare_text


def test_card_says_what_goes_in_and_what_comes_out(text):
    assert "32x32 pixels, 3 channels" in text and "cat, dog, ship" in text


def test_a_thousand_classes_are_counted_instead_of_listed():
    text = render_card(create_model("resnet18"), load_from="x/y")
    assert "Classes: 1000." in text and len(text) < 3000


def test_names_with_yaml_in_them_do_no_harm():
    facts = FACTS | {"name": "a: [b", "data": 'photos: "mine" # {all}'}
    (entry,) = front_matter(render_card(trained(), facts, load_from="x/y"))["model-index"]
    assert entry["name"] == "a: [b"
    assert {result["dataset"]["name"] for result in entry["results"]} == {'photos: "mine" # {all}'}
