"""The Lab tab's handlers: every topic opens, follows its controls and refuses what they do not allow."""

from __future__ import annotations

import gc
import html
import json
import os
import random
import re
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from markupsafe import escape

from resnet_hub.preprocess import load_image
from resnet_hub.ui.lab import page as lab
from resnet_hub.ui.lab.form import Choice, Grid, Redraw, Slider, Switch, Upload, defaults, label, read
from resnet_hub.ui.lab.topics import TOPICS, looking
from resnet_hub.ui.lab.topics.exercises import EXERCISES
from resnet_hub.ui.lab.trained import EXAMPLE
from resnet_hub.ui.results import recorded
from resnet_hub.ui.results.page import study
from resnet_hub.ui.shared.text import LANGUAGES, say

# topics


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("topic", TOPICS)
def test_every_topic_opens_and_every_control_changes_its_drawing(topic, language):
    controls = TOPICS[topic].controls
    usual = defaults(controls)
    top, bottom, study = lab.opened(language, topic, {})
    assert "notice wrong" not in bottom + study and lab.follow(language, topic, {}) == (bottom, usual)
    for control in controls:
        other = usual | {control.name: another(control)}
        if isinstance(control, Upload):
            continue  # a file of this machine is refused; see below
        before = bottom
        if control.name == "padding":  # at the kernel's default there is no room for any
            other["kernel"] = 4
            before, _ = lab.follow(language, topic, usual | {"kernel": 4})
        shown, values = lab.follow(language, topic, other)
        assert values == other and "notice wrong" not in shown, control.name
        assert shown != before, f"{topic}: {control.name} changes nothing"
    assert f'data-topic="{topic}"' in top


def another(control):
    """A value that is not the default."""
    if isinstance(control, Slider):
        far = control.most if control.typed or control.value == control.least else control.least
        return type(control.value)(far)
    if isinstance(control, Choice):
        slow = ("resnet152", "wrn28_10_cifar", "wrn16_4_cifar", "wide_resnet50_2")
        return next(o for o in reversed(control.options) if o not in (control.value, *slow))
    if isinstance(control, Switch):
        return not control.value
    if isinstance(control, Redraw):
        return control.draws - 1
    if isinstance(control, Grid):
        return tuple(tuple(reversed(row)) for row in control.value)
    return control.value


@pytest.mark.parametrize("topic", TOPICS)
def test_every_topic_answers_at_its_largest_values(topic):
    controls = TOPICS[topic].controls
    largest = {c.name: c.most for c in controls if isinstance(c, Slider)} | largest_of(topic)
    assert "notice wrong" not in lab.follow("en", topic, largest)[0]


def largest_of(topic: str) -> dict:
    more = {
        "pooling": {"input": "photo", "shift": True},
        "products": {"real": "56"},
        "patches": {"patch": "8"},
    }
    return (more | {"timeline": {"measure": "resnet152"}, "exercises": {"number": "7", "answer": True}}).get(
        topic, {}
    )


@pytest.mark.parametrize(
    "raw",
    [
        {"depth": 10**9},
        {"depth": "nan"},
        {"depth": None},
        {"activation": "exec"},
        {"batch_norm": "yes"},
        {"depth": []},
    ],
)
def test_values_that_are_not_allowed_are_refused_in_one_line(raw):
    shown, values = lab.follow("en", "gradients", raw)
    name = next(iter(raw))
    assert "notice wrong" in shown and label("en", "gradients", name) in shown
    allowed = {
        "depth": "Use 4 to 110",
        "activation": "one of: relu, tanh",
        "batch_norm": "one of: true, false",
    }
    assert allowed[name] in shown
    assert values == defaults(TOPICS["gradients"].controls)


def test_a_refused_value_stays_refused_in_another_language_and_the_others_stay():
    sent = {"images": 0, "classes": 7}
    controls, image, _ = lab.opened("ja", "transfer", sent)
    assert image == lab.follow("ja", "transfer", sent)[0] and "notice wrong" in image
    assert 'name="classes"' in controls and 'value="7"' in controls


def test_a_grid_of_another_size_and_a_file_that_is_not_an_upload_are_refused():
    for raw in (
        {"grid": [[1] * 7] * 6},
        {"grid": [[10**9] * 6] * 6},
        {"grid": "x"},
        {"padding": 2, "kernel": 2},
    ):
        assert "notice wrong" in lab.follow("en", "pooling", raw)[0]
    secret = {"input": "photo", "photo": "/etc/passwd"}
    assert "The file is gone" in lab.follow("en", "pooling", secret)[0]


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("99", "Row 1, column 2: 99 is too large. Use −9 to 9."),
        ("-10", "Row 1, column 2: −10 is too small. Use −9 to 9."),
        ("x", "Row 1, column 2: “x” is not a whole number. Use −9 to 9."),
    ],
)
def test_a_cell_that_is_not_allowed_is_named(cell, said):
    grid = [["0"] * 6 for _ in range(6)]
    grid[0][1] = cell
    assert said in lab.follow("en", "pooling", {"grid": grid})[0]


def test_values_are_read_as_the_controls_define():
    controls = TOPICS["transfer"].controls
    assert read(controls, {"images": "12000", "similar": False})["images"] == 12_000
    assert read(controls, None) == defaults(controls)


def resident_megabytes() -> float:
    """What this process holds now; its peak may be another test's."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_two_hundred_and_fifty_interactions_leave_no_memory_behind():
    draw = random.Random(0)
    costly = {
        ("products", "real"), ("timeline", "measure"), ("gradients", "depth"), ("batchnorm", "depth"),
        ("receptive", "network"), ("looking", "network"),
    }  # fmt: skip

    def interact(topic: str, i: int) -> None:
        """Open a topic with every control somewhere; where that takes seconds, at its default."""
        controls = [c for c in TOPICS[topic].controls if (topic, c.name) not in costly]
        assert lab.opened(["en", "ja"][i % 2], topic, {c.name: anywhere(c, draw) for c in controls})[1]

    for i, topic in enumerate([*TOPICS] * 4):
        interact(topic, i)
    before = resident_megabytes()
    for i in range(250):
        interact([*TOPICS][i % len(TOPICS)], i)
    assert resident_megabytes() - before < 25


def anywhere(control, draw: random.Random):
    """A value that the control allows."""
    if isinstance(control, Slider):
        steps = int((control.most - control.least) / control.step)
        return type(control.value)(control.least + control.step * draw.randrange(steps + 1))
    if isinstance(control, Choice):
        return draw.choice(control.options)
    if isinstance(control, Switch):
        return draw.random() < 0.5
    if isinstance(control, Redraw):
        return draw.randrange(control.draws)
    if isinstance(control, Grid):
        return [[draw.randint(control.least, control.most) for _ in row] for row in control.value]
    return control.value


@pytest.mark.parametrize("topic", TOPICS)
def test_any_request_is_answered_by_a_drawing_or_one_line(topic):
    language = "ja"
    hostile = [None, True, "", "nan", "-inf", "1e400", 10**400, -1, 0, 0.5, "9" * 5000, [], {}, [[]], "<b>"]
    for control in TOPICS[topic].controls:
        for value in hostile:
            shown, kept = lab.follow(language, topic, {control.name: value})
            assert shown and "<b>&lt;" not in shown and "“<b>" not in shown and "「<b>" not in shown
            for name, one in kept.items():
                read(TOPICS[topic].controls, {name: one})  # what its control shows is allowed
    for data in (None, [], "x", {}, {"topic": []}, {"topic": "none"}, {"topic": {}, "values": 1}):
        assert lab.asked(gr.EventData(None, data))[0] == lab.FIRST
    assert "notice wrong" not in lab.opened(language, topic, "rubbish")[1]


# exercises


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("number", EXERCISES)
def test_every_exercise_opens_a_topic_and_computes_its_answer(number, language):
    task = lab.follow(language, "exercises", {"number": number})[0]
    told = lab.follow(language, "exercises", {"number": number, "answer": True})[0]
    assert "notice fine" in told and "notice fine" not in task
    exercise = EXERCISES[number]
    assert "notice wrong" not in lab.opened(language, exercise.topic, exercise.values)[1]


def test_answers_give_the_course_s_numbers():
    def told(number):
        return lab.follow("en", "exercises", {"number": number, "answer": True})[0]

    assert "1,179,648 against 69,632: 16.9 times" in told("2")
    assert "4,098 parameters" in told("3") and "23,512,130" in told("3")
    assert "--patience" in told("5") and "arXiv 1609.04836" in told("5")
    assert "11,882" in told("7") and "both vanish" in told("7")
    assert "N×128×28×28" in told("4") and "8,192 weights" in told("4")
    assert "0 9 0 (maximum) and 0 4.5 0 (average)" in told("6")
    assert "62,006" in told("10")


@pytest.mark.parametrize("number", ["5", "9", "10"])
def test_an_answer_that_quotes_a_study_names_its_budget(number):
    study = recorded.load("architectures" if number == "10" else "dropout")
    on = study["evidence"]
    told = lab.follow("en", "exercises", {"number": number, "answer": True})[0]
    seeds = f"{on['seeds']} seeds" if on["seeds"] > 1 else "one seed"
    assert f"({on['train_images']:,} training images, {on['epochs']} epochs, {seeds})" in told
    for row in study["rows"]:
        accuracy = f"{100 * row['test_acc']:.1f}\N{NO-BREAK SPACE}%"
        assert accuracy in told  # not the gap alone


# topics that look inside a network


def test_a_click_on_the_photo_asks_for_that_position():
    kept = {"network": "resnet20_cifar10", "stage": 2, "across": 10, "down": 90, "photo": ""}
    shown, _ = lab.follow("en", "receptive", kept)
    asked = [json.loads(html.unescape(each)) for each in re.findall(r'data-values="([^"]*)"', str(shown))]
    assert len(asked) == 16 * 16 and "layer2, row 15, column 2 of 16×16" in shown
    for i, j in ((0, 0), (3, 12), (15, 15)):
        found = asked[16 * i + j]
        assert found.keys() == kept.keys() and (found["network"], found["stage"]) == (kept["network"], 2)
        said, _ = lab.follow("en", "receptive", found)
        assert f"layer2, row {i + 1}, column {j + 1} of 16×16" in said


def test_a_network_without_weights_says_so():
    shown, _ = lab.follow("en", "receptive", {"network": "plain20_cifar"})
    assert "Random weights" in shown and "Trained weights" not in shown


def test_breaking_a_network_names_the_block_and_both_answers():
    from resnet_hub import from_pretrained
    from resnet_hub.lab import ablation

    model = from_pretrained("resnet20_cifar10")
    found = ablation.answers(model, model.preprocess.crop(load_image(EXAMPLE)))[4]
    shown, _ = lab.follow("en", "branches", {"block": 4})
    assert found.block == "layer2.0" and "without layer2.0" in shown
    assert f"{found.label}, {100 * found.probability:.0f}\N{NO-BREAK SPACE}%" in shown


def test_the_code_of_a_block_follows_its_controls():
    shown, _ = lab.follow("en", "shapes", {"block": "bottleneck", "stride": 1, "size": 14})
    (code,) = re.findall(r"<pre>(.*?)</pre>", str(shown), re.DOTALL)
    assert re.search(r"out = self\.conv2\(out\) +# N×32×14×14", code)
    assert re.search(r"return F\.relu\(out\) +# N×128×14×14", code)


def test_every_filter_has_its_own_square():
    filters = np.zeros((9, 3, 2, 2))
    filters[8, 1] = 1.0  # the first of the second row is green
    pixels = np.asarray(looking.sheet(filters))
    assert pixels.shape == (6, 24, 3)
    assert (pixels[3, 0] == (0, 255, 0)).all() and (pixels[2] == 255).all() and not pixels[0, 0].any()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", ["degradation", "dropout", "stem", "batchnorm", "transfer"])
def test_a_study_opens_with_what_it_shows_and_cannot(language, name):
    shown = study(language, name)
    first = shown.index(escape(recorded.finding(recorded.load(name))["shows"][language]))
    assert first < shown.index(say(language, "results_cannot")) < shown.index("<table>")


def test_words_about_another_record_are_not_shown():
    document = recorded.load("dropout")
    assert recorded.finding(document)
    for other in ({"evidence": document["evidence"] | {"epochs": 99}}, {"question": "What else?"}):
        assert recorded.finding(document | other) == {}


def test_a_wrong_value_of_a_hidden_control_holds_up_nothing():
    raw = {"input": "photo", "grid": [["99"] * 6] * 6}
    shown, values = lab.follow("en", "pooling", raw)
    assert "notice wrong" not in shown and values["input"] == "photo"
    assert 'data-fault="grid"' in lab.follow("en", "pooling", raw | {"input": "grid"})[0]


def test_an_address_names_a_topic_and_its_values():
    topic, raw = lab.asked_by({"tab": "lab", "topic": "gradients", "depth": "30", "batch_norm": "false"})
    values = lab.follow("en", topic, raw)[1]
    assert topic == "gradients" and values["depth"] == 30 and values["batch_norm"] is False
    assert lab.asked_by({"topic": "nothing"}) == (lab.FIRST, {})
