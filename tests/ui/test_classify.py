"""What the Classify tab says of an answer, and that the example images are answered rightly."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import pytest
from helpers import ROOT
from helpers.browsing import IN_BROWSER
from helpers.images import image
from PIL import Image

import resnet_hub
from app import build_app
from resnet_hub import engine
from resnet_hub.errors import Refusal
from resnet_hub.hub.fetch import shipped_names
from resnet_hub.models.calibration import Calibration
from resnet_hub.predict import DEFAULT_MODEL, Prediction, classify
from resnet_hub.statement import SENTENCES, statement, with_article
from resnet_hub.ui.classify.many import IF_ANY, Answered, csv_row, in_short, many_photos, row, table
from resnet_hub.ui.classify.page import CHIPS, Shown, details, failure, looked_for, odds, panel
from resnet_hub.ui.classify.page import statement as said
from resnet_hub.ui.classify.tab import Tab, build, shown_of
from resnet_hub.ui.recorder import Recorder
from resnet_hub.ui.shared.errors import Toast, refuse
from resnet_hub.ui.shared.page import EXAMPLES, FOLDER, MOST_PHOTOS, Page
from resnet_hub.ui.shared.text import LANGUAGES, TEXT, identifier, name_of, say
from resnet_hub.ui.shelf import Shelf

ACCEPTED = tomllib.loads((FOLDER / "examples.toml").read_text(encoding="utf-8"))
KNOWS_EXAMPLES = pytest.mark.skipif(
    DEFAULT_MODEL != "resnet18_tiny_imagenet", reason="the examples are chosen for resnet18_tiny_imagenet"
)


@pytest.fixture(scope="module", params=shipped_names())
def model(request):
    return resnet_hub.from_pretrained(request.param)


@pytest.fixture(scope="module")
def default():
    return resnet_hub.from_pretrained(DEFAULT_MODEL)


def answered(certainty, *shares, labels=("teapot", "umbrella", "sunglasses", "dam")):
    """An answer about a grey square."""
    model = resnet_hub.from_pretrained("resnet8_cifar10")
    answer = classify(model, [Image.new("RGB", (32, 32), "grey")])[0]
    return replace(answer, certainty=certainty, top=list(zip(labels, shares, strict=False)))


# Sentences

SAID = [
    ("firm", (0.9, 0.05), "This looks like a teapot.", "ティーポットのようです。"),
    ("unsure", (0.5, 0.1), "Perhaps a teapot.", "ティーポットかもしれません。"),
    ("unsure", (0.5, 0.2), "Perhaps a teapot or an umbrella.", "ティーポットか傘かもしれません。"),
    (
        "unsure",
        (0.3, 0.2, 0.1, 0.1),
        "Perhaps a teapot, an umbrella or sunglasses.",
        "ティーポット、傘、サングラスのどれかかもしれません。",
    ),
    (
        "unfamiliar",
        (0.9,),
        "This does not look like anything I know.",
        "知っているもののどれにも見えません。",
    ),
    (None, (0.341,), "Most likely: teapot (34.1 %)", "最も可能性が高いもの：ティーポット（34.1 %）"),
]


@pytest.mark.parametrize(("certainty", "shares", "english", "japanese"), SAID)
def test_the_page_and_the_command_say_how_sure_the_network_is(certainty, shares, english, japanese):
    answer = answered(certainty, *shares)
    found = [said(language, answer).replace("\N{NO-BREAK SPACE}", " ") for language in LANGUAGES]
    assert found == [english, japanese]
    assert statement(certainty, answer.top) == english


def test_the_command_and_the_page_have_the_same_english_sentences():
    assert {key: TEXT[f"answer_{key}"]["en"] for key in SENTENCES} == SENTENCES


AN = """African elephant, American alligator, American lobster, Arabian camel, Egyptian cat, abacus,
academic gown, acorn, albatross, alp, altar, apron, espresso, hourglass, iPod, ice lolly, obelisk, oboe,
orange, orangutan, organ, ox, umbrella, airplane, automobile, ant"""
BARE = """binoculars, brass, confectionery, guacamole, ice cream, mashed potato, sunglasses, swimming trunks,
thatch"""


def test_every_label_gets_the_right_article():
    labels = tomllib.loads((ROOT / "resnet_hub/ui/shared/labels.toml").read_text(encoding="utf-8"))
    an, bare = ({each.strip() for each in text.split(",")} for text in (AN, BARE))
    assert an | bare <= labels.keys()
    for label in labels:
        expected = "an " if label in an else "" if label in bare else "a "
        assert with_article(label) == expected + label


@pytest.mark.parametrize(
    ("label", "phrase"),
    [
        ("unicycle", "a unicycle"),
        ("European gallinule", "a European gallinule"),
        ("LABEL_3", "LABEL_3"),
        ("spaghetti squash", "spaghetti squash"),
        ("hourglass", "an hourglass"),
    ],
)
def test_other_labels_get_an_article_by_their_sound(label, phrase):
    assert with_article(label) == phrase


@pytest.mark.parametrize(
    ("present", "english", "japanese"),
    [
        (["teapot", "umbrella"], "This shows: teapot, umbrella.", "写っているもの：ティーポット、傘"),
        ([], "I found none of the things I know.", "知っているものは見つかりませんでした。"),
    ],
)
def test_of_an_image_that_may_show_several_things_the_page_says_what_is_present(present, english, japanese):
    answer = replace(answered(None, 0.9, 0.8), present=present)
    assert [said(language, answer) for language in LANGUAGES] == [english, japanese]
    assert statement(None, answer.top, present) == english


def test_every_label_of_a_shipped_model_has_a_japanese_name(model):
    names = [name_of("ja", "class", label) for label in model.labels]
    assert not [label for label in model.labels if f"class_{identifier(label)}" not in TEXT]
    assert len({*names}) == len(model.labels)
    assert [name_of("en", "class", label) for label in model.labels] == [*model.labels]


# The panel

MEASURED = Calibration(1.2, 3.0, 0.05, (("ants", 300, 0.9), ("bees", 100, 0.7)), 0.6, 0.4, 0.88)


def shown(certainty, model, calibration=MEASURED) -> Shown:
    answer = classify(model, [image(0)])[0]
    return Shown(
        replace(answer, certainty=certainty), "some/model", "shipped", calibration, list(model.labels)
    )


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("temperature", [1.0, 1.2])
def test_nothing_is_said_about_percentages_beside_an_unfamiliar_image(model, language, temperature):
    measured = replace(MEASURED, temperature=temperature)
    texts = {
        say(language, "calibrated"),
        say(language, "uncalibrated"),
        say(language, "firm_right", **odds(0.88)),
    }
    html = {
        each: panel(language, shown(each, model, measured)).unescape()
        for each in ("firm", "unsure", "unfamiliar")
    }
    assert not [text for text in texts if text in html["unfamiliar"]]
    assert say(language, "unfamiliar") in html["unfamiliar"]
    assert len([text for text in texts if text in html["firm"]]) == 2
    assert said(language, shown("unsure", model).prediction) in html["unsure"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_bars_that_stand_for_themselves_are_said_to_do_so(model, language):
    several = replace(MEASURED, class_thresholds=(0.5,) * len(model.labels))
    html = panel(language, shown(None, model, several)).unescape()
    assert say(language, "several") in html and say(language, "calibrated") not in html


def test_measured_figures_are_said_in_tenths(default):
    lines = details("en", shown("firm", default))
    assert say("en", "firm_right", times=9, of=10) in lines
    assert say("en", "missed", times=2, of=10) in lines  # (300 * 0.1 + 100 * 0.3) of 400
    assert say("en", "false_alarms", times=5, of=100) in lines
    assert odds(0.97) == {"times": 97, "of": 100}
    assert odds(0.0513) == {"times": 5, "of": 100}  # not "1 of 10"
    assert odds(0.996) == {"times": 99, "of": 100} and odds(0.001) == {"times": 1, "of": 100}
    assert odds(0.0)["times"] == 0 and odds(1.0) == {"times": 100, "of": 100}


def test_the_map_is_of_what_the_answer_says():
    def of(present):
        return Prediction([("dog", 0.6), ("cat", 0.5)], [5, 3], 0, None, None, image(0), 0, present)

    assert looked_for(of(None)) == ("dog", 5)
    assert looked_for(of(["cat"])) == ("cat", 3)  # the dog's threshold is higher
    assert looked_for(of([])) is None


@pytest.mark.parametrize(("present", "said"), [(["cat"], "cat"), ([], "")])
def test_a_table_gives_no_probability_of_another_class(present, said):
    outcome = Prediction([("dog", 0.6), ("cat", 0.5)], [5, 3], 0, None, None, image(0), 0, present)
    assert csv_row(Answered("a.jpg", outcome))[:3] == ["a.jpg", said, ""]
    assert in_short("en", outcome)[1] == ""


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_panel_lists_what_the_network_knows_in_the_visitor_s_language(model, language):
    html = panel(language, shown("firm", model)).unescape()
    assert html.count("<li>") >= len(model.labels)
    assert all(f"<li>{name_of(language, 'class', label)}</li>" in html for label in model.labels)
    more = say(language, "known_more", count=len(model.labels) - CHIPS)
    assert (more in html) == (len(model.labels) > CHIPS)


def test_without_measured_thresholds_the_panel_says_that_other_things_are_not_named(default):
    html = panel("en", shown(None, default, Calibration()))
    assert "Most likely: " in html and say("en", "knows_only", count=len(default.labels)) in html


def test_of_a_fault_of_the_app_the_page_says_only_that_there_was_one():
    toast = refuse("en", "unknown_model", model="net", offered="a")
    for language in LANGUAGES:
        assert failure(OSError("/home/owner/secret: CUDA error"))[language] == say(
            language, "error_unexpected"
        )
        assert failure(Refusal("x", "queue_full"))[language] == say(language, "queue_full")
        assert "net" in failure(toast)[language]


def test_looking_inside_an_answer_loads_nothing_and_names_its_model(default, monkeypatch):
    demo = build_app(shelf := Shelf())
    monkeypatch.setattr(shelf, "get", lambda *_: pytest.fail("a model was loaded"))
    (look,) = [each for each in demo.fns.values() if each.name == "look"]
    answer = shown_of(shown("firm", default).prediction, None, "owner/net", default)
    told = look.fn({"url": "data:image/png;base64," + "A" * 40}, answer, "en").values()
    assert "owner/net" in [each for each in told if isinstance(each, str)]
    told = look.fn({"url": "data:,x"}, answer, "en", "?tab=explore&a=resnet50.32&b=resnet34.64").values()
    assert [each for each in told if isinstance(each, str) and "b=resnet34.64" in each]
    with pytest.raises(Toast, match="feature maps cannot be read"):
        look.fn({"url": "data:,x"}, replace(answer, config=None), "en")


def listeners(demo, component, event: str) -> list:
    """What an event starts, one after another."""
    return [each for each in demo.fns.values() if (component._id, event) in each.targets]


def test_what_answers_slowly_comes_last_of_what_an_event_starts():
    demo = build_app(Shelf())
    by_id = {block.elem_id: block for block in demo.blocks.values() if getattr(block, "elem_id", None)}
    names = [each.name for each in listeners(demo, by_id["model"], "change")]
    assert names[-1] == "on_classify"
    assert "say_again" not in [each.name for each in listeners(demo, by_id["language"], "change")]
    assert "say_again" in [each.name for each in demo.fns.values()]
    tabs = [block for block in demo.blocks.values() if isinstance(block, gr.Tab)]
    firsts = [listeners(demo, tab, "select")[0].js for tab in tabs if listeners(demo, tab, "select")]
    assert len(firsts) >= 5 and all("address.open" in js for js in firsts)


# Several photos


class Many:
    """The section of several photos, and what each of its events answers."""

    def __init__(self) -> None:
        with gr.Blocks() as self.demo:
            self.shelf = Shelf()
            page = Page(self.shelf, gr.Radio(["en", "ja"], value="en"), Recorder())
            self.model = gr.Dropdown()
            many_photos(page, self.model)
        self.events = [*self.demo.fns.values()]

    def answers(self, files: list, model: str) -> tuple:
        (event,) = [each for each in self.events if each.name == "on_files"]
        return event.fn(files, model, "en", SimpleNamespace(), progress=lambda *args, **more: None)


def test_another_model_without_files_waits_in_no_queue():
    many = Many()
    (started,) = [each for each in many.events if (many.model._id, "change") in each.targets]
    (gate,) = [each for each in many.events if each.trigger_after == started._id]
    (asking,) = [each for each in many.events if each.name == "on_files"]
    assert not started.queue and gate.js == IF_ANY and gate.fn is None
    assert asking.trigger_after == gate._id and asking.trigger_only_on_success


def test_files_removed_while_they_are_answered_leave_no_table():
    many = Many()
    (asking,) = [each for each in many.events if each.name == "on_files"]
    (last,) = [each for each in many.events if each.trigger_after == asking._id]
    assert last.fn([]) == last.fn(None) == ("", None) and last.fn([{"path": "x"}]) == (gr.skip(), gr.skip())
    assert last.outputs == asking.outputs and last.inputs == asking.inputs[:1]


def test_a_panel_follows_the_language_and_stays_where_its_state_was_forgotten():
    many = Many()
    (switch,) = [each for each in many.events if each.name == "on_language"]
    visitor, found = SimpleNamespace(session_hash="a"), failure(OSError())
    assert str(switch.fn("ja", found, "<p>an answer</p>", visitor)) == str(table("ja", found))
    assert switch.fn("en", None, "<p>an answer</p>", visitor) == gr.skip()
    assert switch.fn("en", None, "", visitor) == ""


def test_an_answer_is_in_the_language_that_a_visitor_switched_to_meanwhile():
    many = Many()
    (switch,) = [each for each in many.events if each.name == "on_language"]
    (event,) = [each for each in many.events if each.name == "on_files"]
    too_many = [{"path": "x"}] * (MOST_PHOTOS + 1), DEFAULT_MODEL, "en"
    switch.fn("ja", None, "", SimpleNamespace(session_hash="a"))
    for session, language in (("a", "ja"), ("b", "en"), (None, "en")):
        shown, _ = event.fn(*too_many, SimpleNamespace(session_hash=session), progress=None)
        assert say(language, "photos_most", most=MOST_PHOTOS) in shown


def test_a_photo_that_never_reached_us_is_said_to_wait_in_the_photo_s_place(monkeypatch):
    """Too many wait: Gradio tells the page alone, after whatever an earlier photo left."""
    with gr.Blocks() as demo:
        page = Page(Shelf(), gr.Radio(["en", "ja"], value="en"), Recorder())
        build(page, gr.Tab())
    (failed,) = [each for each in demo.fns.values() if each.name == "on_failure"]
    for left in (None, ("a.jpg", DEFAULT_MODEL, "")):
        monkeypatch.setattr("resnet_hub.ui.classify.tab.taken", lambda latest, request, left=left: left)
        label, shown, why = failed.fn("ja", SimpleNamespace(session_hash="a"))
        assert label is None and say("ja", "queue_full") in shown and why["en"] == say("en", "queue_full")


def test_images_with_several_classes_or_none_name_them_all():
    def of(present):
        return Answered(
            "a.jpg", Prediction([("cat", 0.9), ("dog", 0.8)], [3, 5], 0, None, None, image(0), 0, present)
        )

    assert row("en", of(["cat", "dog"]))["answer"] == "cat, dog" and row("en", of(["cat"]))["share"] == ""
    assert row("ja", of([]))["answer"] == say("ja", "answer_absent") and row("ja", of([]))["share"] == ""
    assert csv_row(of(["cat", "dog"]))[1] == "cat;dog" and csv_row(of([]))[1] == ""


def test_files_that_cannot_be_answered_leave_the_reason_in_place_of_the_table():
    many = Many()
    shown, found = many.answers([{"path": "x"}] * (MOST_PHOTOS + 1), DEFAULT_MODEL)
    assert 'role="alert"' in shown and say("en", "photos_most", most=MOST_PHOTOS) in shown
    assert say("ja", "photos_most", most=MOST_PHOTOS) in table("ja", found)
    assert "not a repository" in many.answers([{"path": "x"}], "no/such/model")[0]
    shown, _ = many.answers([{"path": "/etc/passwd", "orig_name": "a.jpg"}], "resnet8_cifar10")
    assert "a.jpg" in shown and say("en", "image_missing") in shown


# The examples


def test_every_example_is_in_the_table_small_and_has_a_source():
    assert {path.name for path in FOLDER.glob("*.jpg")} == {path.name for path in EXAMPLES}
    assert 6 <= len(EXAMPLES) <= 8 and sum(not labels for labels in ACCEPTED.values()) == 1
    sources = (FOLDER / "SOURCES.md").read_text(encoding="utf-8")
    for path in EXAMPLES:
        assert f"| `{path.name}` |" in sources
        assert path.stat().st_size < 60_000 and max(Image.open(path).size) <= 512


@KNOWS_EXAMPLES
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_default_model_answers_each_example_rightly(default, path):
    answer = classify(default, [path])[0]
    if ACCEPTED[path.stem]:
        assert answer.certainty in ("firm", "unsure") and answer.top[0][0] in ACCEPTED[path.stem]
    else:
        assert answer.certainty in ("unsure", "unfamiliar")


class TestInTheBrowser:
    pytestmark = IN_BROWSER

    @pytest.mark.parametrize("language", LANGUAGES)
    def test_a_click_on_each_example_says_the_answer(self, open_page, default, language):
        from playwright.sync_api import expect

        page = open_page(locale={"en": "en-US", "ja": "ja-JP"}[language])
        expect(page.locator("html")).to_have_attribute("lang", language)
        for path in EXAMPLES:
            name = say(language, f"example_{path.stem}")
            page.locator("#examples").get_by_role("button", name=name, exact=True).click()
            answer = said(language, classify(default, [path])[0])
            expect(page.locator("#panel .verdict")).to_have_text(answer)


def test_the_first_visitor_s_photo_waits_for_no_engine(monkeypatch):
    shelf = Shelf()
    tab = Tab(shelf, SimpleNamespace())
    tab.prepare()
    made = []
    monkeypatch.setattr(engine, "prepare", lambda *given: made.append(given))
    classify(shelf.get(shelf.first), [EXAMPLES[1]])
    assert tab.first and made == []
