"""The Lab, Results and Operations tabs in headless Chromium: every section opens and follows its controls."""

import json
import re
import sys
import zipfile

import pytest
from helpers import ROOT
from helpers.browsing import IN_BROWSER, open_tab
from helpers.images import image
from helpers.serving import served

from resnet_hub.lab import cost, fine_tuning, gradients, pooling
from resnet_hub.ui.lab.form import Choice, Slider, Switch
from resnet_hub.ui.lab.topics import TOPICS
from resnet_hub.ui.lab.topics.pooling import EDGE
from resnet_hub.ui.shared.chart import number
from resnet_hub.ui.shared.text import say

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e .[dev]")
expect = playwright.expect
pytestmark = IN_BROWSER
NAMES = {"en-US": "en", "ja-JP": "ja"}
PHONE = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}


def lab_in(page, locale: str = "en-US"):
    """The page with the Lab tab open."""
    open_tab(page, NAMES[locale], "tab_lab", "#lab-image figure")
    return page


@pytest.fixture(scope="module")
def shared_lab(open_lasting_page):
    return lab_in(open_lasting_page())


@pytest.fixture
def lab(shared_lab):
    """lab(topic) -> the shared page with the topic opened anew, every control at its default."""

    def go_(topic: str):
        if shared_lab.locator(f'#lab-controls form[data-topic="{topic}"]').count():
            go(shared_lab, "timeline")
        go(shared_lab, topic)
        return shared_lab

    return go_


def go(page, topic: str) -> None:
    """Open another topic than the one that is open, and wait until nothing is left of that."""
    parts = "#lab-controls form, #lab-image figure, #lab-image table, #lab-image p"
    page.evaluate(
        "parts => document.querySelectorAll(parts).forEach(part => (part.dataset.old = true))", parts
    )
    click_topic(page, topic)
    expect(page.locator("[data-old]")).to_have_count(0)
    expect(page.locator(f'#lab-controls form[data-topic="{topic}"]')).to_be_visible()


def click_topic(page, topic: str) -> None:
    """Unfold the list of topics and choose one."""
    page.locator("#lab-controls .topics").evaluate("topics => (topics.open = true)")
    page.locator(f'#lab-controls nav [data-go="{topic}"]').click()


def set_control(page, name: str, value) -> None:
    """Move one control as a visitor does."""
    control = page.locator(f'#lab-controls [name="{name}"]')
    if isinstance(value, bool):
        control.set_checked(value)
    elif control.evaluate("control => control.tagName") == "SELECT":
        control.select_option(str(value))
    else:
        control.fill(str(value))


def image_of(page) -> str:
    return page.locator("#lab-image").inner_html()


def kind_of(control) -> tuple:
    return type(control), getattr(control, "typed", None)


def moved_controls() -> dict[str, list]:
    """For each topic the controls of a kind that no topic before it has."""
    seen, moved = set(), {}
    for topic, section in TOPICS.items():
        for control in section.controls:
            usable = isinstance(control, (Slider, Choice, Switch)) and not control.when
            if usable and control.name != "padding" and kind_of(control) not in seen:
                seen.add(kind_of(control))
                moved.setdefault(topic, []).append(control)
    return moved


@pytest.mark.parametrize("topic", moved_controls())
def test_every_kind_of_control_changes_the_drawing(lab, topic):
    """The page knows kinds of controls only; test_lab moves each one by name."""
    page = lab(topic)
    figures = page.locator("#lab-image").locator("figure, table, .task, .says").first
    expect(figures).to_be_visible()
    for control in moved_controls()[topic]:
        before = image_of(page)
        if isinstance(control, Slider):
            value = control.most if control.typed else control.value + control.step
        else:
            value = not control.value if isinstance(control, Switch) else control.options[1]
        set_control(page, control.name, value)
        page.wait_for_function(
            "before => document.querySelector('#lab-image').innerHTML !== before", arg=before
        )
        expect(page.locator("#lab-image .notice.wrong")).to_have_count(0)
    assert {host for host in page.hosts if host} <= {"127.0.0.1"}


def test_an_edited_grid_is_pooled_again(lab):
    page = lab("pooling")
    cells = page.locator("#lab-controls [data-grid]")
    expect(cells).to_have_count(36)
    cells.nth(0).fill("7")
    edited = [[*row] for row in EDGE]
    edited[0][0] = 7
    highest, average = (pooling.pool(edited, kind).values[0, 0] for kind in ("max", "average"))
    texts = page.locator("#lab-image figure svg")
    expect(texts.nth(1)).to_contain_text(f"{highest:g}")
    expect(texts.nth(2)).to_contain_text(f"{average:.1f}")


def test_a_click_on_the_photo_asks_for_the_receptive_field_there(lab):
    page = lab("receptive")
    expect(page.locator("#lab-image .says").first).to_contain_text("row 5, column 5 of 8×8")
    page.locator("#lab-image rect[data-go]").nth(8 * 2 + 6).click()
    expect(page.locator("#lab-image .says").first).to_contain_text("row 3, column 7 of 8×8")
    expect(page.locator('#lab-controls [name="across"]')).to_have_value("81")


def test_draw_again_draws_another_sample(lab):
    page = lab("dropout")
    before = page.locator("#lab-image figure").nth(1).inner_html()
    page.get_by_role("button", name=say("en", "lab_control_seed")).click()
    page.wait_for_function(
        "before => document.querySelectorAll('#lab-image figure')[1].innerHTML !== before", arg=before
    )


def test_a_photo_is_pooled_and_another_file_is_refused(lab, photo, tmp_path):
    page = lab("pooling")
    set_control(page, "input", "photo")
    expect(page.locator("#lab-image img.pixels")).to_have_count(3)
    page.locator("#lab-controls [data-upload]").set_input_files(str(photo))
    expect(page.locator("#lab-image figcaption").first).to_contain_text("60×90")
    width = page.locator("#lab-image img.pixels").nth(1).evaluate("image => image.naturalWidth")
    assert width == 45
    (tmp_path / "bad.png").write_bytes(b"no image")
    page.locator("#lab-controls [data-upload]").set_input_files(str(tmp_path / "bad.png"))
    expect(page.locator("#lab-image .notice.wrong")).to_contain_text("not an image")


def test_the_page_shows_the_computed_numbers(lab):
    page = lab("cost")
    set_control(page, "width", 512)
    expect(page.locator("#lab-image")).to_contain_text(f"{sum(cost.block_cost(512).basic):,}")
    go(page, "transfer")
    set_control(page, "images", 5000)
    set_control(page, "classes", 50)
    found = fine_tuning.advise(5000, 50, True)
    expect(page.locator("#lab-image")).to_contain_text(f"{found.trainable:,}")
    expect(page.locator("#lab-image pre")).to_have_text(found.command)
    go(page, "gradients")
    set_control(page, "depth", 10)
    flow = gradients.gradient_flow(10, skip=False)
    expect(page.locator("#lab-image .says").first).to_contain_text(f"plain {number(flow.first_to_last)[:4]}")


def test_an_exercise_leads_into_the_lab_and_shows_its_answer(lab):
    page = lab("exercises")
    set_control(page, "number", "2")
    expect(page.locator("#lab-image .task")).to_contain_text("256 channels")
    expect(page.locator("#lab-image .notice")).to_have_count(0)
    set_control(page, "answer", True)
    expect(page.locator("#lab-image .notice")).to_contain_text("16.9")
    page.locator("#lab-image [data-go]").click()
    expect(page.locator('#lab-controls form[data-topic="cost"]')).to_be_visible()
    expect(page.locator("#lab-image")).to_contain_text("1,179,648")


def test_another_language_keeps_the_topic_and_its_values(open_page):
    page = lab_in(open_page())
    go(page, "dropout")
    set_control(page, "p", 0.3)
    expect(page.locator("#lab-image .says")).to_contain_text("1.43")
    page.get_by_label("日本語").check()
    expect(page.locator("#lab-controls h3")).to_have_text("ドロップアウト")
    expect(page.locator("#lab-image .says")).to_contain_text("1.43 倍")
    assert page.locator('#lab-controls [name="p"]').input_value() == "0.3"


def test_another_language_keeps_a_refused_number_and_why_it_was_refused(open_page):
    page = lab_in(open_page())
    go(page, "transfer")
    set_control(page, "images", 0)
    expect(page.locator("#lab-controls [role=alert]")).to_be_visible()
    page.get_by_label("日本語").check()
    expect(page.locator("#lab-controls [role=alert]")).to_contain_text("10,000,000")
    expect(page.locator("#lab-controls h3")).to_have_text(say("ja", "lab_transfer_title"))
    assert page.locator('#lab-controls [name="images"]').input_value() == "0"


FIRST_IS_LATE = """() => {  // the page's next question leaves late, and those that follow at once
  const usual = window.fetch;
  let late = 3000;
  window.fetch = async (...asked) => {
    const wait = String(asked[0]).includes("/queue/join") ? late : 0;
    if (wait) late = 0;
    await new Promise((done) => setTimeout(done, wait));
    return usual(...asked);
  };
}"""


def test_another_language_while_a_topic_opens_shows_that_topic_in_it(open_page):
    page = lab_in(open_page())
    page.evaluate(FIRST_IS_LATE)
    page.evaluate("() => document.querySelector('#lab-controls [data-go=residual]').click()")
    page.wait_for_timeout(300)
    page.get_by_label("日本語").check()
    expect(page.locator("#lab-controls h3")).to_have_text(say("ja", "lab_residual_title"))
    page.wait_for_timeout(1000)  # for an answer that would come late
    expect(page.locator("#lab-image")).to_have_attribute("aria-busy", "false")
    expect(page.locator("#lab-controls h3")).to_have_text(say("ja", "lab_residual_title"))
    expect(page.locator("#lab-image .says").first).to_contain_text(re.compile("[ぁ-ん]"))


def test_a_topic_opened_again_starts_at_its_defaults(lab):
    page = lab("pooling")
    set_control(page, "input", "photo")
    set_control(page, "stride", 1)
    expect(page.locator("#lab-image img.pixels")).to_have_count(3)
    click_topic(page, "pooling")
    expect(page.locator("#lab-image svg")).to_have_count(3)
    expect(page.locator("#lab-controls [data-grid]").first).to_be_visible()
    stride = page.locator('#lab-controls [name="stride"]')
    expect(stride).to_have_value("2")
    expect(stride.locator("xpath=..").locator("output")).to_have_text("2")


def expect_defaults(page, topic: str) -> None:
    """Every control of the open topic shows the value that its image is made of."""
    expect(page.locator(f'#lab-controls form[data-topic="{topic}"]')).to_be_visible()
    for control in TOPICS[topic].controls:
        shown = page.locator(f'#lab-controls [name="{control.name}"]')
        if isinstance(control, Switch):
            expect(shown).to_be_checked(checked=control.value)
        elif isinstance(control, Slider):
            expect(shown).to_have_value(f"{control.value:g}")
        elif isinstance(control, Choice):
            expect(shown).to_have_value(control.value)


def test_another_topic_shows_its_own_values_whatever_was_touched_before(lab):
    page = lab("pooling")
    set_control(page, "input", "photo")
    go(page, "shapes")
    expect_defaults(page, "shapes")
    go(page, "gradients")
    set_control(page, "batch_norm", False)
    go(page, "transfer")
    expect_defaults(page, "transfer")
    go(page, "exercises")
    set_control(page, "answer", True)
    expect(page.locator("#lab-image .notice")).to_be_visible()
    page.locator("#lab-image [data-go=residual]").click()
    expect_defaults(page, "residual")
    assert page.locator("#lab-controls [type=range]").get_attribute("aria-label") == say(
        "en", "lab_residual_strength"
    )


def test_a_number_out_of_range_is_refused_by_its_label(lab):
    page = lab("transfer")
    set_control(page, "images", 0)
    said = page.locator("#lab-controls [role=alert]")
    expect(said).to_have_text("Training images in all: 0 is out of range. Use 1 to 10,000,000.")
    expect(said).to_be_visible()
    box = page.locator('#lab-controls [name="images"]')
    assert box.get_attribute("aria-describedby") == said.get_attribute("id")
    set_control(page, "images", 700)
    expect(said).to_have_count(0)
    assert box.get_attribute("aria-describedby") is None
    expect(page.locator("#lab-image pre")).to_have_text(fine_tuning.advise(700, 2, True).command)


COUNT = """() => {  // what the page asks from now on
  const usual = window.fetch;
  window.asked = 0;
  window.fetch = (...asked) => {
    if (String(asked[0]).includes("/queue/join")) window.asked++;
    return usual(...asked);
  };
}"""


def test_of_quick_clicks_the_last_one_counts(lab):
    page = lab("skips")
    page.evaluate(COUNT)
    click = "topic => document.querySelector(`#lab-controls [data-go=${topic}]`).click()"
    page.evaluate(f"topics => topics.forEach({click})", ["residual", "timeline", "dropout"])
    expect(page.locator('#lab-controls form[data-topic="dropout"]')).to_be_visible()
    set_control(page, "p", 0.3)
    expect(page.locator("#lab-image .says")).to_contain_text("1.43")
    expect(page.locator("#lab-image")).to_have_attribute("aria-busy", "false")
    expect(page.locator('#lab-controls form[data-topic="dropout"]')).to_be_visible()
    assert page.evaluate("window.asked") == 3  # the first click, the last and the control


def test_a_control_moved_after_a_click_does_not_undo_it(lab):
    page = lab("dropout")
    page.evaluate(
        """() => {
          const slider = document.querySelector("#lab-controls [name=p]");
          slider.value = 0.3;
          document.querySelector("#lab-controls [data-go=residual]").click();
          slider.dispatchEvent(new Event("input", { bubbles: true }));
        }"""
    )
    expect(page.locator('#lab-controls form[data-topic="residual"]')).to_be_visible()
    page.wait_for_timeout(1000)  # for an answer about the form that is gone
    expect(page.locator("#lab-image")).to_have_attribute("aria-busy", "false")
    expect_defaults(page, "residual")


@pytest.mark.parametrize("locale", NAMES)
def test_a_phone_shows_every_topic_without_scrolling_sideways(open_page, locale):
    page = lab_in(open_page(**PHONE, locale=locale), locale)
    for topic in [*TOPICS][1:] + [*TOPICS][:1]:  # the first is open
        go(page, topic)
        expect(page.locator("#lab-image").locator("figure, table, .task").first).to_be_visible()
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, topic


@pytest.fixture
def pets(tmp_path):
    """A folder and a zip of two classes."""
    for name, seeds in (("cat", (0, 1)), ("dog", (2,))):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for seed in seeds:
            image(seed).save(tmp_path / "pets" / name / f"{seed}.png")
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for path in (tmp_path / "pets").rglob("*.png"):
            archive.write(path, path.relative_to(tmp_path))
    return tmp_path


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_a_visitor_s_images_are_predicted_with_wrong_ones_marked(open_page, pets, kind):
    import resnet_hub

    model = resnet_hub.from_pretrained("resnet20_cifar10")
    paths = sorted((pets / "pets").rglob("*.png"))
    right = sum(model.predict(path)[0][0][0] == path.parent.name for path in paths)
    page = open_page()
    open_tab(page, "en", "tab_results", "#grid-form form")
    given = pets / ("pets.zip" if kind == "zip" else "pets")
    page.locator('#grid-form [name="model"]').select_option("resnet20_cifar10")
    page.locator(f'#grid-form [name="{kind}"]').set_input_files(str(given))
    page.locator("#grid-form [data-run]").click()
    expect(page.locator("#grid .tiles figure")).to_have_count(3)
    expect(page.locator("#grid .tiles figure.wrong")).to_have_count(3 - right)
    expect(page.locator("#grid .says")).to_contain_text(f"{right} of 3 correct")
    page.get_by_label("日本語").check()
    expect(page.locator("#grid .says")).to_contain_text("3 枚中")


def test_a_missing_or_broken_upload_is_reported(open_page, tmp_path):
    page = open_page()
    open_tab(page, "en", "tab_results", "#grid-form form")
    page.locator("#grid-form [data-run]").click()
    expect(page.get_by_text("Choose a zip or a folder first").first).to_be_visible()
    (tmp_path / "a.zip").write_bytes(b"rubbish")
    page.locator('#grid-form [name="zip"]').set_input_files(str(tmp_path / "a.zip"))
    page.locator("#grid-form [data-run]").click()
    expect(page.get_by_text("not a zip file").first).to_be_visible()
    with (tmp_path / "large.zip").open("wb") as file:
        file.truncate(31 << 20)
    page.locator('#grid-form [name="zip"]').set_input_files(str(tmp_path / "large.zip"))
    page.locator("#grid-form [data-run]").click()
    said = say("en", "image_file_too_large", max_bytes=30)
    expect(page.get_by_text(said).first).to_be_visible()


def test_a_photo_too_large_for_the_lab_is_a_sentence_and_the_drawing_stays(open_page, tmp_path):
    page = open_page("?tab=lab&topic=looking")
    drawing = page.locator("#lab-image .says").first
    expect(drawing).to_be_visible()
    said = drawing.text_content()
    with (tmp_path / "large.jpg").open("wb") as file:
        file.truncate(31 << 20)
    page.locator("#lab-controls [data-upload]").set_input_files(str(tmp_path / "large.jpg"))
    expect(page.get_by_text(say("en", "image_file_too_large", max_bytes=30)).first).to_be_visible()
    assert drawing.text_content() == said


def test_of_two_studies_chosen_quickly_the_last_one_is_shown_and_in_the_address(open_page):
    page = open_page()
    open_tab(page, "en", "tab_results", "#studies svg")
    names = page.evaluate(
        """() => {
          const buttons = [...document.querySelectorAll("#studies [data-study]")].slice(1, 3);
          buttons.forEach((button) => button.click());
          return buttons.map((button) => button.dataset.study);
        }"""
    )
    shown = page.locator("#studies [aria-current]")
    expect(shown).to_have_attribute("data-study", names[1])
    page.wait_for_url(re.compile(f"study={names[1]}"))
    page.evaluate("() => { history.back(); history.back(); }")
    page.wait_for_timeout(2000)  # for an answer that would come late
    asked = re.search(r"study=(\w+)", page.url)
    first = page.locator("#studies [data-study]").first.get_attribute("data-study")
    expect(shown).to_have_attribute("data-study", asked[1] if asked else first)


@pytest.mark.parametrize("locale", NAMES)
def test_results_fit_a_phone(open_page, locale):
    page = open_page(**PHONE, locale=locale)
    open_tab(page, NAMES[locale], "tab_results", "#grid-form form")
    expect(page.locator("#studies").locator(".notice, svg").first).to_be_visible()
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0


@pytest.fixture(scope="module")
def keeper_url(tmp_path_factory):
    """The app with `--operations`, its results one study, written by the trainer's own `record`."""
    from training import study

    folder = tmp_path_factory.mktemp("keeper")
    line = {"train_acc": 0.5, "val_acc": 0.4, "train_loss": 1.0, "val_loss": 1.1, "seconds": 15.0}
    run = {
        "results": {"top1": 0.61, "top1_flip_tta": 0.63, "images": 1000},
        "history": [line | {"epoch": epoch} for epoch in (1, 2)], "total_params": 269_722, "val_acc": 0.7,
        "seconds": 30.0, "epochs_run": 2, "pflops": 0.01, "best_epoch": 2, "data": "cifar10",
        "train_images": 5000, "recipe": {"epochs": 2}, "hardware": "two cores", "versions": {"torch": "2.15"},
    }  # fmt: skip
    study.record("dropout", {"p = 0.0": [run], "p = 0.5": [run]}, "the command", folder / "results")
    script = folder / "with_results.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from pathlib import Path\nfrom resnet_hub.ui.results import recorded\n"
        f"recorded.RESULTS = Path({str(folder / 'results')!r})\nimport app\napp.main(['--operations'])\n"
    )
    with served([sys.executable, str(script)], folder) as address:
        yield address


def test_operations_are_shown_only_where_asked_for_and_count_answers(open_page, keeper_url, tmp_path, photo):
    from gradio_client import Client, handle_file

    page = open_page()
    expect(page.get_by_role("tab", name=say("en", "tab_results"), exact=True).first).to_be_visible()
    expect(page.get_by_role("tab", name=say("en", "tab_operations"), exact=True)).to_have_count(0)
    client = Client(keeper_url, verbose=False)
    for _ in range(3):
        client.predict(handle_file(str(photo)), api_name="/classify")
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(Exception, match="not an image"):
        client.predict(handle_file(str(tmp_path / "bad.png")), api_name="/classify")
    page = open_page(address=keeper_url)
    open_tab(page, "en", "tab_operations", "#operations table")
    cells = page.locator("#operations tbody tr td").all_inner_texts()
    assert cells[0] == "4" and "25.0 %" in cells
    assert re.fullmatch(r"\d+", cells[2])


def test_a_recorded_study_is_drawn_and_can_be_downloaded(open_page, keeper_url):
    page = open_page(address=keeper_url, **PHONE)
    open_tab(page, "en", "tab_results", "#studies svg >> nth=0")
    expect(page.locator("#studies")).to_contain_text("One seed only")
    with page.expect_download() as download:
        page.locator('#studies a[download="dropout.json"]').click()
    assert json.loads(download.value.path().read_text())["study"] == "dropout"
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0


def test_a_study_under_a_topic_stays_open_while_a_control_moves(open_page, keeper_url):
    page = lab_in(open_page(address=keeper_url))
    go(page, "dropout")
    page.locator("#lab-study summary").click()
    expect(page.locator("#lab-study svg").first).to_be_visible()
    set_control(page, "p", 0.3)
    expect(page.locator("#lab-image .says")).to_contain_text("1.43")
    expect(page.locator("#lab-study svg").first).to_be_visible()
    go(page, "cost")
    expect(page.locator("#lab-study details")).to_have_count(0)
