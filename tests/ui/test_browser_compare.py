"""The Compare tab in headless Chromium: a comparison, its measurement, several photos, the guide."""

import re

import pytest
from helpers.browsing import IN_BROWSER, open_tab
from helpers.images import image

import resnet_hub
from resnet_hub.predict import DEFAULT_MODEL, classify
from resnet_hub.ui.compare.tab import second_shipped
from resnet_hub.ui.shared.page import EXAMPLES
from resnet_hub.ui.shared.text import say
from resnet_hub.ui.shelf import Shelf

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e .[dev]")
expect = playwright.expect
pytestmark = IN_BROWSER


@pytest.fixture
def comparer(open_page):
    """comparer(**context options) -> a page with the Compare tab open."""

    def open_(**options):
        page = open_page("?tab=compare&reference=counterpart", **options)
        expect(page.locator("#compare-go")).to_be_visible()
        return page

    return open_


def give(page, path):
    page.locator("#compare-photo input[type=file]").first.set_input_files(str(path))
    expect(page.locator(f"#compare-photo img[src*='{path.name}']")).to_be_visible()


def compare(page, path):
    give(page, path)
    page.locator("#compare-go").click()
    expect(page.locator("#compare-panel .answer")).to_have_count(2)


def test_a_photo_is_answered_by_both_and_measured_on_request(comparer, photo):
    page = comparer()
    compare(page, photo)
    model = resnet_hub.from_pretrained(DEFAULT_MODEL)
    best, side = model.predict(photo)[0][0][0], model.preprocess.input_size[1]
    answers = page.locator("#compare-panel .answer")
    for i in (0, 1):
        expect(answers.nth(i).locator("li").first).to_contain_text(best)
        assert answers.nth(i).locator("img").evaluate("image => image.naturalWidth") == side
    expect(answers.nth(1)).to_contain_text("Same first guess.")
    expect(page.locator("#compare-panel .drawing svg")).to_be_visible()
    expect(page.locator("#compare-panel")).to_contain_text("not measured")
    page.locator("#compare-measure").click()
    expect(page.locator("#compare-panel")).not_to_contain_text("not measured")
    expect(page.locator("#compare-panel tbody tr").last.locator("td").last).to_have_text(
        re.compile(r"\d ms \(\w+ fp32\)$")
    )
    assert {host for host in page.hosts if host} <= {"127.0.0.1"}


def test_the_tab_opens_with_two_models_that_ship_and_flags_what_neither_knows(open_page):
    page = open_page()
    open_tab(page, "en", "tab_compare", "#compare-go")
    page.locator("#compare-go").click()
    answers = page.locator("#compare-panel .answer")
    expect(answers).to_have_count(2)
    names = {answers.nth(i).locator("h4").inner_text() for i in (0, 1)}
    assert len(names) == 2 and all(name.endswith("(ours)") for name in names)
    model = resnet_hub.from_pretrained(second_shipped(Shelf()))
    is_odd = classify(model, [EXAMPLES[0]])[0].certainty == "unfamiliar"
    expect(answers.nth(1).locator(".notice.wrong")).to_have_count(1 if is_odd else 0)


def test_a_search_finds_the_network_of_that_name_first(comparer):
    page = comparer()
    box = page.locator("#compare-reference input").first
    box.click()
    box.fill("resnet50")
    expect(page.get_by_role("option").first).to_have_text(re.compile("^.?\\s*resnet50$"))


def test_a_typed_reference_that_cannot_be_had_leaves_the_rest_standing(comparer, photo):
    page = comparer()
    box = page.locator("#compare-reference input").first
    box.click()
    box.fill("resnet_of_nobody")
    box.press("Enter")
    page.keyboard.press("Escape")
    compare(page, photo)
    expect(page.locator("#compare-panel [role=alert]")).to_contain_text(
        "timm has no model “resnet_of_nobody”"
    )


def test_an_old_comparison_says_so_and_typed_names_reach_the_address(comparer, photo):
    page = comparer()
    compare(page, photo)
    old = page.locator("#compare-panel[data-is-stale]")
    expect(old).to_have_count(0)
    field = page.locator("#compare-reference input")
    field.fill("resnet8_cifar10")
    field.press("Enter")
    page.wait_for_url(re.compile(r"reference=counterpart%2Cresnet8_cifar10"))
    expect(old).to_have_count(1)
    page.locator("#compare-go").click()
    expect(page.locator("#compare-panel .answer")).to_have_count(3)
    expect(old).to_have_count(0)
    page.locator("#compare-examples button").nth(1).click()
    expect(old).to_have_count(1)
    page.get_by_label("日本語").check()
    expect(page.locator("#compare-panel")).to_contain_text("パラメータ")
    said = page.locator("#compare-panel [data-stale]").evaluate(
        "each => getComputedStyle(each, '::before').content"
    )
    assert said.strip('"') == say("ja", "compare_stale")


def test_two_visitors_at_once_keep_their_own_comparison(comparer, app_folder, photo):
    pages = {"resnet18_tiny_imagenet": comparer(), "other": comparer()}
    box = pages["other"].locator("#compare-model input")
    box.click()
    pages["other"].get_by_role("option", name=str(app_folder / "other")).click()
    for page in pages.values():
        give(page, photo)
    # A speed that an earlier visitor had measured is kept, so the first answers may have it already.
    for button, shown in (("#compare-go", r"\(ours\)"), ("#compare-measure", r"\d ms")):
        for page in pages.values():
            page.locator(button).click()
        for page in pages.values():
            expect(page.locator("#compare-panel")).to_contain_text(re.compile(shown))
        for name, page in pages.items():
            (other,) = pages.keys() - {name}
            expect(page.locator("#compare-panel .ours h4")).to_have_text(f"{name} (ours)")
            expect(page.locator("#compare-panel")).not_to_contain_text(f"{other} (ours)")


def test_every_model_of_timm_can_be_found_by_typing(comparer):
    page = comparer()
    box = page.locator("#compare-reference input").first
    box.click()
    box.fill("mambaout_femto")
    expect(page.get_by_role("option", name="mambaout_femto", exact=True)).to_be_visible()


def test_several_photos_give_a_table_and_a_confusion(comparer, tmp_path):
    files = []
    for seed in range(3):
        image(seed).save(tmp_path / f"photo{seed}.png")
        files.append(str(tmp_path / f"photo{seed}.png"))
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    page = comparer()
    page.locator("#compare-many button").first.click()
    page.locator("#compare-many input[type=file]").first.set_input_files(
        [*files, str(tmp_path / "broken.jpg")]
    )
    expect(page.locator("#compare-many")).to_contain_text("broken")
    page.locator("#compare-many-go").click()
    panel = page.locator("#compare-many-panel")
    expect(panel).to_contain_text("3 of 3 agree")
    expect(panel).to_contain_text("photo2.png")
    expect(panel).to_contain_text("broken.jpg: This is not an image")


def test_the_guide_is_sorted_by_its_headings(comparer):
    page = comparer()
    page.locator("#family button").first.click()
    first = page.locator("#family-guide tbody tr").first.locator("th")
    expect(first).to_have_text("resnet18")
    page.locator("#family-guide [data-sort=params]").click()
    expect(first).to_have_text("vgg16")
    page.locator("#family-guide [data-sort=params]").click()
    expect(first).to_have_text("lenet5")
    page.locator("#family-guide [data-sort=accuracy]").click()
    expect(first).to_have_text("resnet110_cifar")


def test_the_language_switch_translates_an_answer_on_the_page(comparer, photo):
    page = comparer()
    compare(page, photo)
    page.get_by_label("日本語").check()
    expect(page.locator("#compare-panel")).to_contain_text("第 1 候補が一致")
    expect(page.locator("#compare-go")).to_have_text("比べる")
    assert not re.search(
        r"guess|latency|eights|parameters|replaced|blocks", page.locator("#compare-panel").inner_text()
    )


@pytest.mark.parametrize(("scheme", "locale"), [("light", "en-US"), ("dark", "ja-JP")])
def test_a_phone_shows_the_tab_without_scrolling_sideways(comparer, photo, scheme, locale):
    page = comparer(viewport={"width": 390, "height": 844}, color_scheme=scheme, locale=locale)
    compare(page, photo)
    page.locator("#family button").first.click()
    expect(page.locator("#family-guide table")).to_be_visible()
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0
