"""The promises of a model card: the Hub parses it, it states what was measured and nothing that was not.
Oracle: huggingface_hub's own card classes."""

from __future__ import annotations

import copy
import json
import re
import shlex

import pytest
import yaml
from helpers.cards import FACTS, LABELS, OLD_CARD, RECIPE, RESULTS, leaves
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_hub import create_model, from_pretrained
from resnet_hub.hub import figures
from resnet_hub.hub.card import (
    card_figures,
    card_results,
    measured_figures,
    public_facts,
    render_card,
    run_facts,
)
from resnet_hub.hub.card_merge import END, merged, split_front_matter
from resnet_hub.hub.fetch import SHIPPED, shipped_names
from resnet_hub.hub.figures import Figure
from resnet_hub.interop.onnx import preprocess_words
from resnet_hub.models.calibration import Calibration
from resnet_hub.preprocess import Preprocess

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


@pytest.mark.parametrize("which", ["text", "bare_text"])
def test_front_matter_says_what_the_hub_needs_and_has_no_empty_field(which, request):
    fields = front_matter(request.getfixturevalue(which))
    assert fields["pipeline_tag"] == "image-classification" and fields["library_name"] == "resnet_hub"
    assert fields["license"] == "mit"
    assert all(leaf not in (None, "", "None") for leaf in leaves(fields))


@pytest.mark.parametrize("which", ["text", "bare_text"])
def test_no_placeholder_is_left(which, request):
    text = request.getfixturevalue(which)
    for placeholder in ("More Information Needed", "{{", "{%", "None", "nan", "NaN", "TODO", "OWNER/NAME"):
        assert placeholder not in text
    assert "}}" not in text.split("<!-- facts")[0]


def test_card_survives_the_hubs_own_reader_and_writer(text, tmp_path):
    (tmp_path / "README.md").write_text(text)
    card = ModelCard.load(tmp_path / "README.md")
    card.save(tmp_path / "again.md")
    assert ModelCard.load(tmp_path / "again.md").data.to_dict() == card.data.to_dict()
    assert card.text.strip().splitlines()[1] == "# resnet20_cifar, trained on CIFAR-10 re-encoded as JPEG"


def test_model_index_states_the_measured_figures_on_the_test_part(text):
    (entry,) = front_matter(text)["model-index"]
    assert entry["name"] == "my_run"
    values = {m["name"]: m["value"] for result in entry["results"] for m in result["metrics"]}
    assert set(values.values()) == set(STATED.values())
    assert values["Top-1 accuracy"] == 0.8761
    assert {result["dataset"]["split"] for result in entry["results"]} == {"test"}


def test_stated_figures_can_be_read_back(text):
    assert card_results(text) == STATED


def test_no_card_states_nothing():
    assert card_results("") == card_figures("") == {}


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
        "1,234 test images of CIFAR-10 re-encoded as JPEG",
        "45,017", "5,003", "seed 17", "36 epochs", "epoch 35", "88.13 %",
        "0.123", "0.0456", "0.00078", "21 %", "0.067", "0.987", "24x24", "55 %",
        "0.315 PFLOPs", "2,871 seconds", "bfloat16", "a made-up processor", "torch 2.15.0", "python 3.11.9",
        "python -m training.cifar resnet20_cifar --data photos --out my_run",
        "| temperature | 1.2345 |", "| energy threshold | 2.3456 |", "unfamiliar | 5.17 % |",
        "| ants and bees | 244 | 41.39 % |",
    ],
)  # fmt: skip
def test_text_states_the_fact(text, fact):
    assert fact in text


@pytest.mark.parametrize(("share", "admitted"), [(0.4139, True), (0.93, False)])
def test_card_admits_where_most_strange_images_pass_unnoticed(share, admitted):
    model = trained()
    model.calibration = Calibration(1.0, 2.0, 0.05, (("ants and bees", 244, share),))
    results = RESULTS | {"unfamiliar": {}}
    text = render_card(model, FACTS | {"results": results}, load_from="x/y")
    assert ("fails to flag most images of ants and bees" in text) is admitted


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


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("center", "just covers 64x128"),
        ("squash", "64x128 whatever the shape"),
        ("border", "fits into 64x128"),
    ],
)
def test_card_and_onnx_file_say_how_the_image_is_cropped(mode, words):
    model = create_model("resnet20_cifar")
    model.preprocess = Preprocess((3, 32, 64), crop_pct=0.5, crop_mode=mode)
    assert words in render_card(model, load_from="x/y") and words in preprocess_words(model.preprocess)


def test_a_thousand_classes_are_counted_instead_of_listed():
    text = render_card(create_model("resnet18"), load_from="x/y")
    assert "Classes: 1000." in text and len(text) < 3000


def test_names_with_yaml_in_them_do_no_harm():
    facts = FACTS | {"name": "a: [b", "data": 'photos: "mine" # {all}'}
    (entry,) = front_matter(render_card(trained(), facts, load_from="x/y"))["model-index"]
    assert entry["name"] == "a: [b"
    assert {result["dataset"]["name"] for result in entry["results"]} == {'photos: "mine" # {all}'}


def altered(text: str, old: str, new: str) -> str:
    assert text.count(old) >= 1, f"{old!r} is not on the card"
    return text.replace(old, new, 1)


def wrong_figures(text: str) -> set[str]:
    """What `training.evaluate` would find wrong on a card of FACTS."""
    measured = measured_figures(trained(), RESULTS, 2e-4)
    stated = card_figures(text)
    return {name for name, value in stated.items() if not abs(value - measured[name][0]) <= measured[name][1]}


def test_a_card_agrees_with_the_figures_it_was_made_from_and_states_each(text):
    assert wrong_figures(text) == set()
    assert card_figures(text).keys() == measured_figures(trained(), RESULTS, 2e-4).keys()


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("value: 0.8761", "value: 0.8861", "top1"),
        ("| top-1 accuracy | 87.61 % |", "| top-1 accuracy | 88.61 % |", "top1"),
        ('"top1": 0.8761', '"top1": 0.8861', "top1"),
        ("calibrated | 0.4321 |", "calibrated | 0.4021 |", "loss"),
        ("| dog | 72.5 % |", "| dog | 82.5 % |", "class dog"),
        ("| **dog** | 90 | 290 |", "| **dog** | 80 | 290 |", "dog called cat"),
        ("[90, 290, 20]", "[80, 290, 20]", "dog called cat"),
        ("| temperature | 1.2345 |", "| temperature | 1.0 |", "temperature"),
        ("threshold | 2.3456 |", "threshold | 1.3456 |", "energy_threshold"),
        ("unfamiliar | 5.17 % |", "unfamiliar | 1.17 % |", "false_alarms"),
        ("| 244 | 41.39 % |", "| 244 | 91.39 % |", "ants and bees called unfamiliar"),
        ("| dog | 72.5 % |", "| dog | many |", "class dog"),
    ],
)
def test_one_altered_figure_anywhere_on_the_card_is_noticed(text, old, new, name):
    assert name in wrong_figures(altered(text, old, new))


def test_a_changed_figure_is_named_where_text_and_facts_agree_on_it(text):
    both = altered(altered(text, "| dog | 72.5 % |", "| dog | 82.5 % |"), "0.725", "0.825")
    assert card_figures(both)["class dog"] == 0.825 and wrong_figures(both) == {"class dog"}


@pytest.mark.parametrize("facts", ["", "{", "[]", '{"figures": 1}', '{"figures": {"unfamiliar": {"x": 3}}}'])
def test_facts_that_cannot_be_read_count_as_none(text, facts):
    start, end = text.index("<!-- facts ") + 11, text.index(" -->\n" + END)
    assert card_figures(text[:start] + facts + text[end:]) == STATED


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_card_is_what_its_facts_and_configuration_make(name):
    text = (SHIPPED / name / "README.md").read_text(encoding="utf-8")
    facts = run_facts(text)
    assert facts and render_card(from_pretrained(name), facts, load_from=name) == text


@pytest.mark.parametrize(
    ("part", "end"), [("test", "Noise."), ("val", "Noise, its val part."), (None, "Noise.")]
)
def test_a_card_says_where_the_val_part_stood_for_the_test(part, end):
    facts = FACTS | {"data": "Noise", "results": RESULTS} | ({"test_part": part} if part else {})
    (line,) = re.findall("(?m)^Measured once.*$", render_card(trained(), facts, load_from="x/y"))
    assert line.endswith(f"test images of {end}")


def test_a_figure_is_added_in_one_place(monkeypatch):
    more = (
        Figure("sure", "right among unflagged answers", metric=("accuracy", "Accuracy of unflagged answers")),
        Figure("seen", "seen", figures.UNFAMILIAR, "{:.3f}".format),
    )
    monkeypatch.setattr(figures, "FIGURES", (*figures.FIGURES, *more))
    monkeypatch.setattr("resnet_hub.hub.card.METRICS", {f.key: f.metric for f in figures.FIGURES if f.metric})
    results = RESULTS | {
        "sure": [0.95, 0.94, 0.96],
        "unfamiliar": {"ants and bees": {"images": 244, "flagged": 0.4139, "seen": 0.971}},
    }
    text = render_card(trained(), FACTS | {"results": results}, load_from="x/y")
    assert "| right among unflagged answers | 95.00 % (94.00 % to 96.00 %) |" in text
    assert "| ants and bees | 244 | 41.39 % | 0.971 |" in text
    assert {"sure", "ants and bees seen"} <= card_figures(text).keys()
    assert card_results(text)["sure"] == 0.95
    found = measured_figures(trained(), results | {"sure": 0.90}, 2e-4)
    assert abs(found["sure"][0] - card_figures(text)["sure"]) > found["sure"][1]


NASTY = ("a|b", "back\\slash", "<script>alert(1)</script>")


def test_labels_with_bars_and_markup_keep_the_tables_whole():
    model = trained()
    model.labels = NASTY
    text = render_card(model, FACTS, load_from="x/y")
    assert "<script>" not in text
    stated = card_figures(text)
    assert stated["class a|b"] == pytest.approx(0.915) and stated["a|b called back\\slash"] == 20


@pytest.mark.parametrize(
    ("patience", "fitted", "choices", "weights"),
    [
        (
            0,
            {"images": 24, "false_alarms": [0.04, 0.0, 0.14]},
            "the temperature, the thresholds",
            ", not chosen on",
        ),
        (3, {"images": 24, "false_alarms": None}, "when to stop, the temperature", ""),
        (0, {"images": 4, "false_alarms": None}, "none", ", not chosen on"),
        (0, None, "the temperature, the thresholds", ", not chosen on"),
    ],
)
def test_a_card_names_what_the_validation_images_chose(patience, fitted, choices, weights):
    facts = copy.deepcopy(FACTS) | {"keep": "last", "held_out_images": 24, "calibration": fitted}
    facts["recipe"]["patience"] = patience
    text = render_card(trained(), facts, load_from="x/y")
    assert re.search("a validation set of 24 more for every choice: (.*)", text)[1] == choices
    assert f"(the last epoch{weights}" in text and ("not chosen on" in text) == bool(weights)


@pytest.mark.parametrize(
    "path", ["/home/anna/photos", "data/photos", "data/photos/train", "../photos/", "C:\\anna\\photos"]
)
def test_a_card_names_no_folder_of_the_machine(path):
    facts = FACTS | {
        "data": path,
        "command": f"python -m training.cifar lenet5 --data {path!r} --out /home/anna/r",
    }
    text = render_card(trained(), facts, load_from="x/y")
    assert "anna" not in text and "test images of photos." in text


def test_the_commands_of_an_extended_run_stay_apart_and_name_no_folder_either():
    command = "python -m training.cifar lenet5 --data /home/jane/patients --out /home/jane/runs/x"
    further = {"from_epoch": 1, "to_epoch": 2, "command": f"{command} --epochs 2 --resume"}
    public = public_facts(FACTS | {"command": f"{command}\n{further['command']}", "extended": [further]})
    assert "jane" not in json.dumps(public)
    short = "python -m training.cifar lenet5 --data patients --out x"
    assert public["command"] == f"{short}\n{short} --epochs 2 --resume"
    assert public["extended"] == [further | {"command": f"{short} --epochs 2 --resume"}]


def test_data_with_a_slash_in_its_name_keeps_it():
    assert "of cats / dogs." in render_card(trained(), FACTS | {"data": "cats / dogs"}, load_from="x/y")


def test_a_card_of_half_precision_weights_says_so_and_is_made_again_from_its_facts(text):
    line = "Weights are stored as float16 and converted to float32 on loading."
    halved = render_card(trained(), FACTS, load_from="somebody/my_run", half=True)
    facts = run_facts(halved)
    assert facts["weights_dtype"] == "float16"
    assert render_card(trained(), facts, load_from="somebody/my_run") == halved
    assert [row for row in halved.splitlines() if line in row] == [line] and line not in text


TRANSFER = FACTS | {
    "base_model": "timm/resnet18.a1_in1k",
    "mode": "partial",
    "trainable_params": 1234,
    "total_params": 5678,
    "class_counts": {"cat": 500, "dog": 400, "ship": 300},
}


def test_card_of_a_transfer_run_names_its_base():
    text = render_card(trained(), TRANSFER, load_from="x/y")
    fields = front_matter(text)
    assert (fields["base_model"], fields["base_model_relation"]) == ("timm/resnet18.a1_in1k", "finetune")
    for fact in ("`timm/resnet18.a1_in1k`, partial fine-tuning (the", "1,234 of 5,678 parameters", "dog 400"):
        assert fact in text


@pytest.mark.parametrize("base", ["torchvision/ResNet18_Weights.IMAGENET1K_V1", "/home/anna/run", "runs/a/b"])
def test_a_base_that_is_no_hub_repository_is_not_in_the_front_matter(base):
    text = render_card(trained(), TRANSFER | {"base_model": base}, load_from="x/y")
    assert "base_model" not in front_matter(text) and "anna" not in text


def test_a_directory_that_looks_like_a_repository_is_not_named(tmp_path, monkeypatch):
    (tmp_path / "runs" / "anna").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    text = render_card(trained(), TRANSFER | {"base_model": "runs/anna"}, load_from="x/y")
    assert "base_model" not in front_matter(text) and "anna" not in text


def test_feature_map_table_is_that_of_this_very_network(bare_text):
    assert "| layer3 | 64 | 8x8 | 81 | 4 | 203,520 | 12,976,128 |" in bare_text
    other = render_card(create_model("resnet20_cifar", strides=(1, 1, 2)), load_from="x/y")
    assert "| layer3 | 64 | 16x16 |" in other and "strides 1, 1, 2" in other


def test_card_says_how_to_load_it_in_three_libraries():
    stock = render_card(create_model("resnet18", num_classes=2), load_from="somebody/net")
    assert 'timm.create_model("hf-hub:somebody/net", pretrained=True)' in stock
    assert 'pipeline("image-classification", model="somebody/net")' in stock
    assert "register_timm" not in stock and "transformers" in front_matter(stock)["tags"]
    own = render_card(create_model("resnet20_cifar"), load_from="somebody/net")
    assert "resnet_hub.register_timm()" in own and "transformers" not in front_matter(own)["tags"]


# Two cards in one


def with_facts(**changes) -> str:
    return render_card(trained(), FACTS | changes, load_from="somebody/my_run")


def test_merging_a_card_with_itself_changes_nothing(text):
    assert merged(text, text).split() == text.split()
    assert merged(merged(text, text), text) == merged(text, text)


def test_changed_figures_replace_the_old_ones(text):
    new = with_facts(results=RESULTS | {"top1": 0.9123}, seed=99)
    both = merged(text, new)
    assert "| top-1 accuracy | 91.23 % |" in both and "87.61 %" not in both and "seed 99" in both
    assert card_results(both)["top1"] == 0.9123


NOTES = st.lists(st.text("abc .|#*-<>&`1\u3042", max_size=20).map("note {}".format), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def newer_text() -> str:
    return with_facts(results=RESULTS | {"top1": 0.9123}, seed=99)


@settings(max_examples=25)
@given(NOTES, st.data())
def test_lines_added_anywhere_survive_every_push_and_figures_follow_the_run(text, newer_text, notes, data):
    front, body = split_front_matter(text)
    lines = body.splitlines()
    places = st.integers(0, len(lines) - 3) | st.just(len(lines))  # not between the facts and the end
    remote = lines.copy()
    for note, at in zip(notes, sorted(data.draw(places) for _ in notes)[::-1], strict=True):
        remote.insert(at, note)
    remote = front + "\n".join(remote) + "\n"
    assert merged(remote, text) == remote
    both = merged(remote, newer_text)
    kept = [line for line in both.splitlines() if line.startswith("note ")]
    assert kept == [line for line in remote.splitlines() if line.startswith("note ")]
    assert card_figures(both)["top1"] == 0.9123 and "87.61 %" not in both and "seed 99" in both


def test_a_card_of_an_older_version_can_be_read_and_pushed_over(text):
    assert card_figures(OLD_CARD) == {"top1": 0.8798}
    both = merged(OLD_CARD, text)
    assert card_figures(both) == card_figures(text) and "87.98 %" not in both and both.count("\n# ") == 1
    assert "Not for mushrooms." in both and "To Anna." in both
    assert both.count("## Results\n") == 1 and merged(both, text) == both


def test_a_section_written_by_hand_survives_where_it_stood(text):
    remote = altered(text, "## How it was trained", "## Thanks\n\nTo Anna.\n\n## How it was trained")
    both = merged(remote, with_facts(seed=99))
    assert "## Thanks\n\nTo Anna." in both and "seed 99" in both
    headings = [line for line in both.splitlines() if line.startswith("## ")]
    assert headings.index("## Thanks") == headings.index("## How it was trained") - 1


@pytest.mark.parametrize("heading", ["## Limits and intended use\n", "## Results\n"])
def test_words_added_to_a_generated_section_survive(text, heading):
    remote = altered(text, heading, heading + "\nNot for mushrooms.\n")
    both = merged(remote, with_facts(results=RESULTS | {"top1": 0.9123}))
    assert both.count("Not for mushrooms.") == 1 and "91.23 %" in both


def test_a_rewritten_section_of_words_survives_and_a_rewritten_figure_does_not(text):
    remote = altered(text, "It was not tested for any", "Anna tested it, but not for any")
    remote = altered(remote, "| top-1 accuracy | 87.61 % |", "| top-1 accuracy | 99.99 % |")
    both = merged(remote, text)
    assert "Anna tested it" in both and "99.99 %" not in both


def test_a_title_changed_by_hand_survives(text):
    both = merged(
        altered(text, "# resnet20_cifar, trained on", "# Anna's net, trained on"), with_facts(seed=99)
    )
    assert both.count("\n# ") == 1 and "# Anna's net" in both and "seed 99" in both


def test_front_matter_added_by_hand_survives(text):
    remote = altered(text, "license: mit\n", "license: apache-2.0\nlanguage: ja\nthumbnail: null\n")
    remote = altered(remote, "- resnet\n", "- resnet\n- mushrooms\n")
    fields = front_matter(merged(remote, with_facts(results=RESULTS | {"top1": 0.9123})))
    assert (fields["license"], fields["language"]) == ("apache-2.0", "ja")
    assert "mushrooms" in fields["tags"] and "thumbnail" not in fields
    assert fields["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.9123


def test_a_licence_that_cards_state_by_themselves_does_not_outlive_its_weights(text):
    new = with_facts(data="Tiny ImageNet")
    for_research = {k: v for k, v in front_matter(new).items() if k.startswith("license")}
    assert for_research["license_name"] == "imagenet-research"
    assert for_research.items() <= front_matter(merged(text, new)).items()
    back = front_matter(merged(new, text))
    assert back["license"] == "mit" and "license_name" not in back
    theirs = altered(text, "license: mit\n", "license: apache-2.0\n")
    kept = front_matter(merged(theirs, new))
    assert kept["license"] == "apache-2.0" and not {"license_name", "license_link"} & kept.keys()
    assert merged(theirs, text, same_weights=True) == theirs  # not even moved: else it is one more commit


def test_facts_in_a_rewritten_section_are_not_kept_for_other_ones(text):
    """The opening and "Use" hold the classes and sizes of what was published before."""
    theirs = text.replace("Input: 32x32 pixels", "Just give it 32x32 pixels")
    assert "Just give it" in merged(theirs, text)
    other = trained()
    other.preprocess = Preprocess((3, 64, 64))
    both = merged(theirs, render_card(other, FACTS, load_from="somebody/my_run"))
    assert "Just give it" not in both and "64x64" in both


@pytest.mark.parametrize("heading", ["Results", "The network"])
def test_a_section_of_ours_that_a_person_wrote_stays_beside_what_is_generated(text, heading):
    both = merged(f"# Mine\n\n## {heading}\n\nMy own table.\n", text)
    assert "My own table." in both and "| top-1 accuracy | 87.61 % |" in both
    assert merged(both, text) == both


def test_no_folder_of_the_machine_is_on_a_card():
    command = shlex.join(["python", "-m", "x", "--data", "/home/John Smith/photos", "--out=C:\\My runs\\one"])
    facts = FACTS | {"command": command, "teacher": "/home/anna/big", "recipe": RECIPE}
    card = render_card(trained(), facts, load_from="somebody/my_run")
    assert not any(name in card for name in ("John", "Smith", "My runs", "anna"))
    assert "photos" in card and "distillation from a local checkpoint" in card


@pytest.mark.parametrize(
    ("base", "licence"),
    [(None, "mit"), ("resnet20_cifar10", "other"), ("timm/resnet50.fb_swsl_ig1b_ft_in1k", None)],
)
def test_fine_tuned_weights_keep_the_licence_of_their_owner(base, licence):
    card = render_card(trained(), FACTS | {"base_model": base, "mode": "full"}, load_from="somebody/my_run")
    assert front_matter(card).get("license") == licence


@pytest.mark.parametrize(
    ("data", "is_ten"),
    [
        ("CIFAR-10 re-encoded as JPEG", True),
        ("CIFAR-100", False),
        ("cifar100", False),
        ("cifar10-jpeg", True),
    ],
)
def test_cifar_100_is_not_called_cifar_10(data, is_ten):
    card = render_card(trained(), FACTS | {"data": data}, load_from="somebody/my_run")
    assert ("cifar10" in front_matter(card).get("datasets", [])) == is_ten


def test_results_of_earlier_weights_do_not_outlive_them(text, bare_text):
    both = merged(text, bare_text)
    assert "model-index" not in front_matter(both) and "## Results" not in both and "87.61" not in both
    noted = altered(text, "## Results\n", "## Results\n\nNot for mushrooms.\n")
    noted = altered(noted, "tags:\n", "tags:\n- timm\n- transformers\n- mushrooms\n")
    both = merged(altered(noted, "- cifar10\n", "- cifar10\n- anna/fungi\n"), bare_text)
    fields = front_matter(both)
    assert "Not for mushrooms." in both and "87.61" not in both and "metrics" not in fields
    assert fields["datasets"] == ["anna/fungi"] and "mushrooms" in fields["tags"]
    assert not {"timm", "transformers"} & set(fields["tags"])


def test_results_stay_while_the_weights_do(text, bare_text):
    both = merged(text, bare_text, same_weights=True)
    assert card_results(both) == STATED and "| dog | 72.5 % |" in both
    assert "# resnet20_cifar, trained on CIFAR-10" in both and "were not trained" not in both
    assert "It was not tested for any decision" in both and both.count("## Use\n") == 1


def test_a_card_written_by_hand_keeps_its_introduction(text):
    both = merged("# Anna's mushrooms\n\nNever use for food.\n\n## Use\n\nWith care.\n", text)
    assert "# Anna's mushrooms\n\nNever use for food.\n" in both and "With care." in both
    assert card_results(both) == STATED and both.count("\n# ") == 1
    assert merged(both, text) == both


def test_weights_from_elsewhere_are_neither_called_ours_nor_untrained(tmp_path):
    model = create_model("resnet20_cifar")
    model.source, model.revision = "timm/resnet18.a1_in1k", "0123abc"
    text = render_card(model, load_from="somebody/net")
    fields = front_matter(text)
    assert fields["base_model"] == "timm/resnet18.a1_in1k" and "license" not in fields
    assert "loaded from `timm/resnet18.a1_in1k`" in text and "not trained" not in text
    assert "base_model" not in front_matter(render_card(model, load_from="timm/resnet18.a1_in1k"))
    model.source, model.revision = str(tmp_path), "local"
    assert str(tmp_path) not in render_card(model, load_from="somebody/net")


def test_a_line_added_below_an_edited_figure_stays_and_the_figure_follows_the_run(text):
    (line,) = (each for each in text.splitlines() if each.startswith("| top-1 accuracy |"))
    remote = altered(text, line, "| top-1 accuracy | 99.99 % |\n\nMeasured on my own photos.")
    both = merged(remote, text)
    assert line in both and "99.99" not in both and "Measured on my own photos." in both
    assert merged(both, text) == both


def test_a_card_says_on_how_many_answers_the_firm_threshold_was_fitted():
    model, fit = trained(), {"images": 24, "temperature": None, "false_alarms": [0.04, 0.001, 0.14]}
    model.calibration = Calibration(1.0, 2.0, 0.05, firm_threshold=0.7, firm_share=0.8, firm_right=0.9)
    facts = FACTS | {"calibration": fit | {"firm": [20, 0.95, 0.764, 0.991]}}
    words = "(fitted on 24 images, of which 20 are answered firmly, 95.0 % of them correctly; 95 % interval "
    assert f"{words}76.4 % to 99.1 %)" in render_card(model, facts, load_from="somebody/net")


@pytest.mark.parametrize(("name", "licence"), [("resnet20_cifar10", "other"), ("plain20_cifar10", "mit")])
def test_shipped_weights_that_are_pushed_on_keep_their_licence(name, licence):
    text = render_card(from_pretrained(name), load_from="somebody/net")
    assert front_matter(text)["license"] == licence
    assert ("allow research and teaching" in text) == (licence == "other")


def test_a_free_network_that_went_on_with_imagenet_has_imagenet_s_terms():
    facts = FACTS | {"base_model": "plain20_cifar10", "mode": "full"}
    for data, licence in (("tiny-imagenet-200", "other"), ("photos", "mit")):
        text = render_card(trained(), facts | {"data": data}, load_from="somebody/net")
        assert front_matter(text)["license"] == licence
        assert ("allow research and teaching" in text) == (licence == "other")


def test_a_hub_data_set_is_named_by_its_id_whatever_it_is_called():
    facts = FACTS | {"data": "me/cifar10-lt", "hub_dataset": "me/cifar10-lt"}
    fields = front_matter(render_card(trained(), facts, load_from="somebody/net"))
    assert fields["datasets"] == ["me/cifar10-lt"]
    (entry,) = fields["model-index"][0]["results"]
    assert entry["dataset"]["type"] == "me/cifar10-lt"


@pytest.mark.parametrize(
    "remote", ["\n---\nlicense: cc-by-4.0\n---\n# Mine\n", "---\nlicense: cc-by-4.0\n---"]
)
def test_front_matter_that_the_hub_s_client_reads_is_read(text, remote):
    assert ModelCard(remote).data.license == "cc-by-4.0" == front_matter(merged(remote, text))["license"]


@pytest.mark.parametrize("remote", ["", "no front matter", "---\n: [\n---\nbroken", "---\r\na: 1\r\n---\r\n"])
def test_any_remote_card_can_be_merged(text, remote):
    both = merged(remote, text)
    assert card_results(both) == STATED and "## Results" in both
