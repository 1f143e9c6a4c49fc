"""The promises of the Explore tab's plain functions and of `/explore`. Oracles: `trace`, the built network,
the course's table, an XML parser."""

import contextlib
import inspect
import json
import random
import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from types import SimpleNamespace
from urllib.parse import parse_qsl

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from resnet_hub import create_model, from_pretrained, list_models, model_config
from resnet_hub.errors import Refusal
from resnet_hub.geometry import first_centres, stages, trace
from resnet_hub.geometry.advice import RULES
from resnet_hub.onnx_file import OnnxFile
from resnet_hub.ui.explore import designs
from resnet_hub.ui.explore import page as explore_page
from resnet_hub.ui.explore import run as explore_run
from resnet_hub.ui.explore import tab as explore
from resnet_hub.ui.explore.designs import FIELDS
from resnet_hub.ui.explore.drawing import Map, common_scale, shrinking_maps
from resnet_hub.ui.recorder import Recorder
from resnet_hub.ui.shared.errors import explain
from resnet_hub.ui.shared.images import data_url, viridis
from resnet_hub.ui.shared.page import Page
from resnet_hub.ui.shared.text import LANGUAGES, TEXT, say
from resnet_hub.ui.shelf import Shelf

WORDS = st.sampled_from(
    [
        "resnet50",
        "lenet5",
        "32",
        "96x64",
        "stem-cifar",
        "strides-1-2-2-1",
        "maxpool-no",
        "stem",
        "-",
        "9" * 30,
    ]
)

SVG = "{http://www.w3.org/2000/svg}"


@given(st.lists(WORDS | st.text(max_size=8), max_size=6).map(".".join))
def test_any_address_is_a_design_or_refused_in_one_line(text):
    try:
        config = designs.read_address(text)
        assert designs.read_address(designs.address(config)) == config
    except ValueError as refused:
        assert isinstance(refused, Refusal) and "\n" not in explain("en", refused)


def any_design(seed: int):
    """A random configuration of a random network that controls can make and `trace` accepts."""
    rng = random.Random(seed)
    while True:
        config = drawn(rng)
        with contextlib.suppress(Refusal):
            designs.design(config)
            return config


def drawn(rng: random.Random):
    config = model_config(rng.choice(list_models()), input_size=(rng.randint(64, 300), rng.randint(64, 300)))
    options = {
        "stem": ("imagenet", "cifar", "deep"),
        "maxpool": (True, False),
        "strides": [tuple(rng.randint(1, 8) for _ in getattr(config, "depths", ()))],
        "stride_in": ("3x3", "1x1"),
        "shortcut": ("projection", "zeropad", "none"),
    }
    chosen = {field: rng.choice(values) for field, values in options.items() if rng.random() < 0.6}
    return config.override(**{f: v for f, v in chosen.items() if f in designs.taken(config)})


def same_network(one, other) -> bool:
    """Whether two configurations build the same thing; `maxpool=None` means as usual with the stem."""
    return one.to_dict() | {"maxpool": 0} == other.to_dict() | {"maxpool": 0} and getattr(
        one, "has_maxpool", None
    ) == getattr(other, "has_maxpool", None)


def test_pooling_is_added_to_a_network_that_was_published_without_it():
    plain, pooled = designs.read("resnet18_64px"), designs.read("resnet18_64px", maxpool=True)
    assert (plain.has_maxpool, pooled.has_maxpool) == (False, True)
    for config in (plain, pooled):
        assert designs.read_address(designs.address(config)) == config
    assert "maxpool=True" in designs.python(pooled) and "maxpool" not in designs.python(plain)


@pytest.mark.parametrize("seed", range(60))
def test_an_address_brings_back_its_design_and_needs_no_escapes(seed):
    config = any_design(seed)
    text = designs.address(config)
    assert same_network(designs.read_address(text), config)
    assert re.fullmatch(r"[\w.-]+", text)


@pytest.mark.parametrize("seed", range(60))
def test_the_controls_bring_back_their_design(seed):
    config = any_design(seed)
    examined = explore_page.from_controls(designs.values(config))
    assert same_network(examined.config, config)


@pytest.mark.parametrize("seed", range(12))
def test_the_python_builds_exactly_this_network(seed, monkeypatch):
    config = any_design(seed)
    built = []
    monkeypatch.setattr("resnet_hub.create_model", lambda name, **o: built.append((name, o)), raising=False)
    exec(designs.python(config), {})
    ((name, overrides),) = built
    assert same_network(model_config(name, **overrides), config)
    usual = model_config(name).to_dict() | {"maxpool": None}
    assert all(usual[field] != value for field, value in overrides.items()), "only what is not the default"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "network"),
        ("resnet17.32", "network"),
        ("<script>.32", "network"),
        ("resnet50.x", "input_size"),
        ("resnet50.0", "input_size_range"),
        ("resnet50.5000x5000.stem-cifar", "input_size_range"),
        ("resnet50." + "9" * 250, "input_size_range"),
        ("resnet50.32.stem-7x7", "word"),
        ("resnet50.32.maxpool-perhaps", "word"),
        ("resnet50.32.strides-1-2", "strides_count"),
        ("resnet50.32.strides-0-2-2-2", "strides_range"),
        ("resnet50.32.strides-a-b", "strides"),
        ("resnet18.32.stride_in-1x1", "idle"),
        ("lenet5.32.stem-cifar", "idle"),
        ("resnet50.32.depths-900", "address"),
        ("resnet50.32.stem-cifar.stem-deep", "address"),
        ("alexnet.32", "nothing_left"),
        (".".join(["resnet50.32", *map(str, range(10**6))]), "address"),
    ],
    ids=lambda value: value[:40],
)
def test_an_impossible_design_is_refused_with_a_sentence(text, code):
    with pytest.raises(Refusal) as refused:
        designs.design(designs.read_address(text))
    assert refused.value.code == f"design_{code}"
    for language in LANGUAGES:
        sentence = explain(language, refused.value)
        assert "{" not in sentence and "\n" not in sentence and len(sentence) < 500


def test_of_an_address_without_end_only_the_beginning_is_read():
    assert len(explore_page.in_query("&".join(f"{i}=x" for i in range(10**5)))) < 1000


def test_the_smallest_image_named_is_one_that_works():
    with pytest.raises(Refusal) as refused:
        designs.design(designs.read_address("alexnet.32"))
    least = refused.value.facts["least"]
    assert designs.design(designs.read_address(f"alexnet.{least}")).rows
    with pytest.raises(Refusal):
        designs.design(designs.read_address(f"alexnet.{least - 1}"))


@pytest.mark.parametrize(
    ("stem", "sides"), [("imagenet", [32, 16, 8, 8, 4, 2, 1]), ("cifar", [32, 32, 32, 16, 8, 4])]
)
def test_maps_are_drawn_to_scale(stem, sides):
    found = designs.design(designs.read("resnet50", stem, "32"))
    drawn = ET.fromstring(explore_page.drawing("en", "A", found, 2.0))
    boxes = drawn.findall(f"{SVG}rect")
    assert [float(box.get("width")) for box in boxes] == [2.0 * side for side in sides]
    assert [float(box.get("height")) for box in boxes] == [2.0 * side for side in sides]


@pytest.mark.parametrize("seed", range(20))
def test_no_drawing_leaves_its_frame(seed):
    found = [designs.design(any_design(seed)), designs.design(any_design(seed + 1))]
    scale = common_scale([explore_page.maps_of("ja", each) for each in found])
    for each in found:
        drawn = ET.fromstring(explore_page.drawing("ja", "B", each, scale))
        width, height = float(drawn.get("width")), float(drawn.get("height"))
        for box in drawn.iter(f"{SVG}rect"):
            left, top = float(box.get("x")), float(box.get("y"))
            assert left >= 0 and left + float(box.get("width")) <= width
            assert top >= 0 and top + float(box.get("height")) <= height


WIDEST = 7.0  # units a character takes in DejaVu Sans, the widest of the page's fonts, 11 units high


@pytest.mark.parametrize("other", ["resnet50.32", "resnet50.32.stem-cifar", "resnet152.224"])
def test_no_label_of_a_drawing_is_printed_over_another(other):
    found = [designs.design(designs.read_address(text)) for text in ("resnet50.32", other)]
    scale = common_scale([explore_page.maps_of("en", each) for each in found])
    for each in found:
        drawn = ET.fromstring(explore_page.drawing("en", "A", each, scale))
        rows: dict[str, list[tuple[float, float]]] = {}
        for label in drawn.iter(f"{SVG}text"):
            letter = WIDEST * (1.1 if label.get("font-weight") == "600" else 1)
            middle, half = float(label.get("x")), letter * len(label.text) / 2
            rows.setdefault(label.get("y"), []).append((middle - half, middle + half))
        for row in rows.values():
            assert all(end <= start for (_, end), (start, _) in pairwise(sorted(row)))


def test_equal_designs_are_one_line_of_the_curves_with_both_names():
    same = {name: designs.design(designs.read_address("resnet18.32")) for name in "AB"}
    for _, chart in explore_page.depth_charts("en", same):
        names = [label.text for label in ET.fromstring(chart).iter(f"{SVG}text")]
        assert "A = B" in names and not {"A", "B"} & set(names)
    other = same | {"B": designs.design(designs.read_address("resnet34.32"))}
    assert "A = B" not in "".join(chart for _, chart in explore_page.depth_charts("en", other))


@pytest.mark.parametrize(
    "text", ["resnet50.4096x1", "resnet50.1024x32", "resnet50.4096.stem-cifar.maxpool-yes"]
)
def test_extreme_sizes_are_drawn_in_a_frame_of_usual_size(text):
    found = designs.design(designs.read_address(text))
    scale = common_scale([explore_page.maps_of("en", found)])
    drawn = ET.fromstring(explore_page.drawing("en", "A", found, scale))
    assert float(drawn.get("height")) <= 500 and float(drawn.get("width")) <= 600
    boxes = [max(float(box.get("width")), float(box.get("height"))) for box in drawn.findall(f"{SVG}rect")]
    assert max(boxes) > 20


def test_a_map_of_one_position_is_drawn_in_the_warning_colour():
    drawn = ET.fromstring(shrinking_maps([Map("x", 3, (32, 32)), Map("y", 8, (1, 1))], 2, "#000000", "t"))
    assert [box.get("fill") for box in drawn.iter(f"{SVG}rect")] == ["#000000", "#d55e00"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_shows_the_numbers_of_both_designs(language):
    sides, _ = explore_page.arrival({})
    shown = explore_page.page(language, sides)
    assert "25,557,032" in shown.compared and "1,299,857,408" in shown.compared
    assert "2048×1×1" in shown.panels["A"] and "2048×4×4" in shown.panels["B"]
    assert shown.tables["A"].count("<tr>") == len(trace("resnet50")) + 1
    assert shown.query == "?a=resnet50.32&b=resnet50.32.stem-cifar"


def test_hostile_words_are_escaped():
    wrong = explore_page.examine(lambda: designs.read("<img src=x onerror=alert(1)>"))
    shown = explore_page.page("en", {"A": wrong, "B": wrong}, {"A": wrong})
    assert "<img" not in str(shown) and shown.panels["A"].count("&lt;img") == 2


@pytest.mark.parametrize("rule", [rule.code for rule in RULES])
def test_every_advice_has_its_sentence_in_both_languages(rule):
    cases = [
        "resnet50.32",
        "resnet18.1024",
        "resnet18.224.stem-cifar",
        "resnet50.225",
        "resnet8_cifar.36",
        "resnet50.224.stride_in-1x1",
    ]
    found = [
        (d.config, one) for d in map(designs.design, map(designs.read_address, cases)) for one in d.advice
    ]
    config, advice = next((config, one) for config, one in found if one.code == rule)
    english, japanese = (explore_page.advice_item(language, config, advice) for language in LANGUAGES)
    for words in ("why", "change"):
        assert re.match("[A-Z]|timm", english[words]) and re.search("[ぁ-んァ-ン]", japanese[words])
        assert not re.search("[{}]", english[words] + japanese[words])
    mended = designs.design(designs.read_address(english["target"]))
    assert rule not in [one.code for one in mended.advice]


def test_every_japanese_sentence_is_japanese():
    keys = [key for key in TEXT if key.startswith(("design_", "advice_", "run_", "take_", "column_"))]
    assert len(keys) > 40
    for key in set(keys) - {"column_macs"}:  # MACs are MACs
        assert re.search("[ぁ-んァ-ン一-龠]", TEXT[key]["ja"]), key


def test_every_kind_of_layer_has_words():
    kinds = {row.op for name in list_models() for row in trace(name)}
    assert {"conv", "batch_norm", "linear"} <= kinds
    assert {f"op_{kind}" for kind in kinds} <= TEXT.keys()


class Visitor:
    """A page without a browser: what the components say, and what their events answer.

    An answer's strides are set last, one after the other, and each fires an event at once.
    """

    def __init__(self) -> None:
        with gr.Blocks() as self.demo:
            given = Page(Shelf(), gr.Radio(["en", "ja"], value="en"), Recorder())
            with gr.Tab() as tab:
                self.tab = explore.build(given, tab)
        self.values = {block: getattr(block, "value", None) for block in self.demo.blocks.values()}
        kinds = (gr.Dropdown, gr.Textbox, gr.Checkbox)
        self.controls = [block for block in self.tab.arrivals if isinstance(block, kinds) and block.visible]
        self.query = next(c for c in self.tab.arrivals if isinstance(c, gr.Textbox) and not c.visible)

    def control(self, side: str, key: str):
        return [c for c in self.controls if c.label == say("en", key)]["AB".index(side)]

    def does(self, component, event: str, data: dict | None = None) -> None:
        """The component's event, with what every component says now."""
        self.apply(self.answer(component, event, self.values, data))

    def answer(self, component, event: str, values: dict, data: dict | None = None) -> dict:
        (found,) = [fn for fn in self.demo.fns.values() if (component._id, event) in fn.targets]
        given = {"event": gr.EventData(component, data), "request": SimpleNamespace(session_hash=None)}
        more = [given[name] for name in inspect.signature(found.fn).parameters if name in given]
        return found.fn({each: values[each] for each in found.inputs}, *more)

    def apply(self, updates: dict) -> None:
        after = {
            component: update["value"] if "__type__" in update else update
            for component, update in updates.items()
        }
        values, boxes = dict(self.values), [self.control(side, "strides") for side in "AB"]
        self.values |= {each: value for each, value in after.items() if each not in boxes}
        for strides in boxes:  # the last that the browser sets, one after the other
            self.values[strides] = after.get(strides, values[strides])
            if self.values[strides] != values[strides]:
                assert self.answer(strides, "change", self.values) == gr.skip()

    def arrives(self, query: dict) -> None:
        self.apply(self.tab.arrive(query, "en"))

    def shows(self, side: str) -> str:
        """The address of a design, of which the controls must say the same."""
        fields = {field: self.control(side, "network" if field == "model" else field) for field in FIELDS}
        examined = explore_page.from_controls({field: self.values[c] for field, c in fields.items()})
        address = dict(parse_qsl(self.values[self.query].lstrip("?")))[side.lower()]
        assert designs.address(examined.config) == address
        return address


@pytest.fixture(scope="module")
def visitor():
    return Visitor()


@pytest.mark.parametrize("name", list_models())
def test_every_network_arrives_as_it_was_named(visitor, name):
    """By a link, in the dropdown, and by the button of each advice on it."""
    published = designs.address(model_config(name))
    for other in ("resnet50.32", "plain20_cifar.32", "lenet5.28"):
        visitor.arrives({"a": other, "b": other})
        visitor.arrives({"a": published, "b": published})
        assert visitor.shows("A") == visitor.shows("B") == published
    for side in "AB":
        visitor.arrives(
            {"a": "resnet50.64.stem-deep.shortcut-zeropad", "b": "resnet20_cifar.64.shortcut-none"}
        )
        size, network = visitor.control(side, "input_size"), visitor.control(side, "network")
        visitor.values |= {size: published.split(".")[1], network: name}
        visitor.does(network, "input")
        assert visitor.shows(side) == published
    for side_length in (32, 225):
        examined = explore_page.from_address(f"{name}.{side_length}")
        for advice in getattr(examined, "advice", ()):
            target = designs.address(examined.config.override(**advice.overrides))
            visitor.arrives({"a": f"{name}.{side_length}"})
            panel = next(c for c in visitor.tab.arrivals if "data-apply" in str(visitor.values[c]))
            assert f'data-apply="{target}"' in visitor.values[panel]
            visitor.does(panel, "click", {"address": target})
            assert visitor.shows("A") == target


def test_strides_that_a_visitor_changes_and_takes_back_are_followed(visitor):
    visitor.arrives({"a": "resnet50.32", "b": "resnet50.32"})
    strides = visitor.control("A", "strides")
    for typed, shown in (("1,2,2,1", ".strides-1-2-2-1"), ("1,2,2", None), ("1,2,2,2", "")):
        visitor.values[strides] = typed
        visitor.does(strides, "change")
        if shown is not None:
            assert visitor.shows("A") == "resnet50.32" + shown


def test_another_language_shows_the_designs_on_the_page_whatever_the_controls_still_say(visitor):
    visitor.arrives({"a": "resnet20_cifar.32", "b": "nonsense"})
    shown, early = visitor.values[visitor.query], dict.fromkeys(visitor.controls, "")
    language = next(block for block in visitor.values if isinstance(block, gr.Radio))
    updates = visitor.answer(language, "change", visitor.values | early | {language: "ja"})
    assert updates[visitor.query] == shown == "?a=resnet20_cifar.32&b=resnet50.32.stem-cifar"
    assert sum("アドレスにある設計は作れない" in str(update) for update in updates.values()) == 1


@pytest.fixture(scope="module")
def shelf():
    return Shelf()


def run(shelf, text: str, photo) -> explore_run.Run:
    return explore_run.run(shelf, designs.design(designs.read_address(text)), photo)


@pytest.mark.parametrize("name", list_models())
def test_every_network_runs_on_an_image(shelf, photo, name):
    text = f"{name}.{67 if name == 'alexnet' else 32}"
    found = run(shelf, text, photo.read_bytes())
    rows = designs.design(designs.read_address(text)).rows
    last = [row for row in rows if row.stage != "head"][-1]
    assert found.stages[-1].size == last.out_size
    assert all(len(stage.images) == explore_run.CHANNELS for stage in found.stages)


def test_the_maps_are_the_trained_model_s_own(shelf, photo):
    found = run(shelf, "resnet20_cifar.32", str(photo))
    assert found.source == "resnet20_cifar10"
    model = from_pretrained("resnet20_cifar10")
    pixels = model.preprocess.tensor(Image.open(photo))[None]
    channel = model.features(pixels)[0][0, 0].detach().numpy()
    span = (channel - channel.min()) / (channel.max() - channel.min())
    assert found.stages[0].images[0] == data_url(viridis(span))


@pytest.mark.parametrize(
    "text", ["resnet20_cifar.32.maxpool-yes", "resnet20_cifar.32.strides-1-2-1", "resnet32_cifar.32"]
)
def test_another_design_is_not_called_trained(shelf, photo, text):
    assert run(shelf, text, str(photo)).source is None
    assert "Random weights" in explore_page.weights_text("en", run(shelf, text, str(photo)))


def test_weights_that_one_visitor_named_are_not_shown_to_another(photo, tmp_path):
    create_model("resnet20_cifar", shortcut="projection").save_pretrained(tmp_path / "net")
    text, folder = "resnet20_cifar.32.shortcut-projection", str(tmp_path / "net")
    for offered, source in (((), None), ((folder,), folder)):
        shelf = Shelf(offered)
        shelf._models.put(folder, from_pretrained(folder))
        assert run(shelf, text, photo).source == source


def test_of_models_that_share_a_design_the_one_whose_answer_led_here_is_shown(photo, tmp_path):
    create_model("resnet20_cifar", num_classes=3).save_pretrained(tmp_path / "net")
    shelf, design, visitors = Shelf(), designs.design(designs.read_address("resnet20_cifar.32")), "owner/net"
    shelf._models.put(visitors, from_pretrained(tmp_path / "net"))
    assert explore_run.run(shelf, design, str(photo), visitors).source == str(tmp_path / "net")
    assert explore_run.run(shelf, design, str(photo)).source == "resnet20_cifar10"
    assert explore_run.run(shelf, design, str(photo), "resnet8_cifar10").source == "resnet20_cifar10"
    assert explore_run.run(shelf, design, str(photo), "evicted/net").source == "resnet20_cifar10"


def test_an_onnx_file_in_memory_holds_up_no_run(photo):
    shelf, file = Shelf(("net.onnx",)), object.__new__(OnnxFile)
    file.size = 1
    shelf._models.put("net.onnx", file)
    assert run(shelf, "resnet18.32", photo).source is None


def test_the_page_says_when_weights_were_trained_at_another_size(shelf, photo):
    found = run(shelf, "resnet20_cifar.96", str(photo))
    assert found.source and "32×32" in explore_page.weights_text("en", found)


def test_random_weights_leave_the_random_numbers_of_others_alone(shelf, photo):
    import torch

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = run(shelf, "resnet18.32", str(photo))
    assert torch.equal(torch.rand(3), expected)
    assert run(shelf, "resnet18.32", str(photo)) == first


@pytest.mark.parametrize(
    "text", ["resnet50.4096x4096.stem-cifar", "vgg16.4096", "wrn28_10_cifar.512", "alexnet.3000"]
)
def test_too_costly_a_run_is_refused_before_it_starts(text):
    refusal = explore_run.too_costly("A", designs.design(designs.read_address(text)))
    assert refusal.code == "run_too_much"
    assert "100 G" in explore_page.maps("en", {"A": refusal})


@pytest.mark.parametrize(
    "text", ["resnet152.224", "vgg16.224", "wide_resnet50_2.384", "resnet18.224.stem-cifar"]
)
def test_usual_designs_may_run(text):
    assert explore_run.too_costly("A", designs.design(designs.read_address(text))) is None


def test_a_channel_is_shown_from_its_lowest_to_its_highest_value():
    shown = np.asarray(explore_run.shaded(np.array([[-3.0, 5.0]])))
    assert shown[0].tolist() == [[68, 1, 84], [253, 231, 37]]
    assert explore_run.shaded(np.zeros((500, 300))).size == (50, 84)


@pytest.fixture(scope="module")
def client(app_url, tmp_path_factory):
    return Client(app_url, verbose=False, download_files=str(tmp_path_factory.mktemp("client")))


def test_the_api_needs_a_network_only(client):
    document = client.predict("resnet20_cifar", api_name="/explore")
    assert document["totals"]["params"] == 269_722 and document["advice"] == []
    assert document["config"]["input_size"] == [32, 32]


def test_the_api_takes_every_change(client):
    document = client.predict("resnet50", "deep", "47x61", "1,2,1,2", False, "1x1", api_name="/explore")
    rows = trace("resnet50", (47, 61), stem="deep", strides=(1, 2, 1, 2), maxpool=False, stride_in="1x1")
    assert document["rows"] == json.loads(json.dumps([vars(row) for row in rows]))
    assert {"last_map_small", "size_rounded"} & {one["code"] for one in document["advice"]}


def test_the_api_s_table_of_the_course(client):
    for stem, sides in (("imagenet", [16, 8, 8, 4, 2, 1]), ("cifar", [32, 32, 16, 8, 4])):
        document = client.predict("resnet50", stem, "32", api_name="/explore")
        assert [stage["out_size"] for stage in document["stages"][:-1]] == [[n, n] for n in sides]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("resnet17",), "Choose one of: resnet"),
        (("resnet50", "7x7"), "imagenet, cifar, deep"),
        (("resnet50", None, "5000"), "1 to 4096"),
        (("resnet50", None, "32", "1,2,2,0"), "1 to 8"),
        (("resnet18", None, None, None, None, "1x1"), "has no effect on"),
        (("resnet50", None, "32", None, "maybe"), "Choose one of: yes, no"),
        (({"a": 1},), "There is no network"),
        (("resnet50", ["cifar"]), "Choose one of"),
    ],
)
def test_the_api_says_what_is_wrong_in_one_line(client, arguments, words):
    with pytest.raises(AppError, match=words) as error:
        client.predict(*arguments, api_name="/explore")
    assert "Traceback" not in str(error.value) and "\n" not in str(error.value)
    assert client.predict("lenet5", api_name="/explore")["totals"]["params"] == 44_426


@pytest.mark.parametrize("language", LANGUAGES)
def test_advice_says_what_a_stem_was_measured_to_cost_and_nothing_where_it_was_not(
    language, tmp_path, monkeypatch
):
    import json

    from resnet_hub.models.registry import model_config
    from resnet_hub.ui.explore.designs import design
    from resnet_hub.ui.explore.page import panel
    from resnet_hub.ui.results import recorded

    small = design(model_config("resnet50", input_size=32))
    monkeypatch.setattr(recorded, "RESULTS", tmp_path)
    assert "61.3" not in panel(language, small, "")
    rows = [{"arm": "CIFAR stem", "test_acc": 0.7049}, {"arm": "ImageNet stem", "test_acc": 0.6132}]
    stands_on = {"train_images": 6000, "epochs": 5, "data": "CIFAR-10 re-encoded as JPEG", "seeds": 1}
    study = {"study": "stem", "question": "", "evidence": stands_on, "rows": rows, "histories": {}}
    (tmp_path / "stem.json").write_text(json.dumps(study))
    said = panel(language, small, "")
    assert "61.3\N{NO-BREAK SPACE}%" in said and "70.5\N{NO-BREAK SPACE}%" in said and "6,000" in said
    assert ("One seed only" in said) == (language == "en") and ("re-encoded" in said) == (language == "en")
    (tmp_path / "stem.json").write_text(json.dumps(study | {"evidence": stands_on | {"seeds": 3}}))
    assert say(language, "results_one_seed") not in panel(language, small, "")
    assert say(language, "apply_stem_cifar") in re.findall(r"<button [^>]*>([^<]*)", said)
    for side in (48, 224):  # at 48 the advice is there, but no measurement
        larger = design(model_config("resnet50", input_size=side))
        assert "61.3\N{NO-BREAK SPACE}%" not in panel(language, larger, "")


@pytest.mark.parametrize("name", ["resnet20_cifar", "resnet18", "resnet50", "vgg_cifar"])
def test_a_position_of_a_map_depends_on_the_frame_drawn_and_on_nothing_else(name):
    """The frame of a click, against the gradient of one position on the input."""
    import torch

    side = 32 if name == "vgg_cifar" else 64
    rows = designs.design(designs.read(name, input_size=str(side))).rows
    model = create_model(name, input_size=side).eval()
    for parameter in model.parameters():  # so that no ReLU is off
        torch.nn.init.constant_(parameter, 0.01)
    pixels = torch.ones(1, 3, side, side, requires_grad=True)
    found = model.features(pixels)[0]
    stage = next(each for each in stages(rows) if each.name.startswith(("layer", "stage")))
    position = found.shape[-1] // 2
    found[0, :, position, position].sum().backward()
    (touched,) = (pixels.grad.abs().sum((0, 1, 2)) > 0).nonzero(as_tuple=True)
    middle = first_centres(rows)[stage.name] + 0.5 + position * stage.jump
    first, last = middle - stage.receptive_field / 2, middle + stage.receptive_field / 2
    assert max(first, 0) <= touched.min() and touched.max() + 1 <= min(last, side)
    pooled = any(row.op == "max_pool" for row in rows)  # which passes one value of each window on
    assert pooled or (touched.min(), touched.max() + 1) == (max(first, 0), min(last, side))
