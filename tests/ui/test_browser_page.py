"""The whole page in headless Chromium: what stands there first, its addresses, access for everybody, calm."""

import base64
import csv
import io
import json
import re
import time

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from helpers.browsing import IN_BROWSER, PATIENCE, open_tab
from helpers.images import image

import resnet_hub
from resnet_hub.predict import DEFAULT_MODEL, classify
from resnet_hub.ui.classify.page import statement
from resnet_hub.ui.shared.page import EXAMPLES
from resnet_hub.ui.shared.text import name_of, say

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e .[dev]")
expect = playwright.expect
pytestmark = IN_BROWSER
PHONE = {"viewport": {"width": 390, "height": 844}}
TABS = {
    "classify": "#panel .verdict",
    "explore": "#design-A svg",
    "compare": "#compare-go",
    "lab": "#lab-image figure",
    "results": "#studies svg",
}
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


@pytest.fixture(scope="module")
def first():
    """The default model's answer to the first example."""
    return classify(resnet_hub.from_pretrained(DEFAULT_MODEL), [EXAMPLES[0]])[0]


@pytest.fixture
def ready(app_url):
    """Once the default model has answered."""
    for _ in range(600):
        if httpx.get(f"{app_url}healthz").status_code == 200:
            return app_url
        time.sleep(0.2)
    raise TimeoutError("the default model has not answered after two minutes")


# What comes first


@pytest.mark.parametrize(
    ("query", "accepted", "language"),
    [("", "ja", "ja"), ("", "en", "en"), ("?lang=en", "ja", "en"), ("?lang=ja", "en", "ja")],
)
def test_the_first_html_is_in_the_visitor_s_language_and_says_the_first_answer(
    ready, first, query, accepted, language
):
    answer = httpx.get(ready + query, headers={"accept-language": accepted})
    other = {"en": "ja", "ja": "en"}[language]
    assert f'<html\n\tlang="{language}"' in answer.text and answer.headers["content-encoding"] == "gzip"
    said, unsaid = (say(each, "drop") for each in (language, other))
    assert say(language, "intro") in answer.text and say(other, "intro") not in answer.text
    assert statement(language, first) in answer.text
    assert said in answer.text and unsaid not in answer.text


def test_a_stream_of_events_is_not_held_back_by_the_compression(app_url):
    address = f"{app_url}gradio_api/queue/data?session_hash=nobody"
    with httpx.stream("GET", address, headers={"accept-encoding": "gzip"}, timeout=30) as stream:
        assert "content-encoding" not in stream.headers
        assert next(stream.iter_text())


def test_the_page_opens_with_the_model_s_own_answer_and_moves_nothing(ready, context, first):
    watch = """window.moved = 0; new PerformanceObserver((list) => list.getEntries().forEach(
        (each) => { if (!each.hadRecentInput) window.moved += each.value; }
    )).observe({ type: "layout-shift", buffered: true });"""
    for options in ({}, PHONE):
        page, said, answers = context(**options).new_page(), [], []
        expect.set_options(timeout=PATIENCE)
        page.on("console", lambda line, said=said: said.append(line))
        page.on("response", lambda answer, answers=answers: answers.append(answer))
        page.add_init_script(watch)
        page.goto(ready)
        expect(page.locator("html.built")).to_be_attached()
        expect(page.locator("#panel .verdict")).to_have_text(statement("en", first))
        expect(page.locator("#photo img")).to_be_visible()
        expect(page.locator("#panel img.seen")).to_have_count(2)
        page.wait_for_timeout(500)
        assert page.evaluate("window.moved") < 0.1
        assert not [line.text for line in said if line.type in ("warning", "error")]
        assert not [answer.url for answer in answers if answer.status >= 400]
        page.close()


def test_the_first_answer_speaks_another_language_without_a_photo_of_the_visitor(open_page, ready, first):
    page = open_page()
    page.get_by_label("日本語").check()
    expect(page.locator("#panel .verdict")).to_have_text(statement("ja", first))
    page.reload()
    expect(page.locator("#panel .verdict")).to_have_text(statement("ja", first))


def test_a_phone_shows_photo_examples_and_answer_without_scrolling(open_page, ready):
    page = open_page(**PHONE)
    expect(page.locator("#examples button").first).to_be_in_viewport(ratio=1)
    page.locator("#examples").get_by_role("button", name=say("en", "example_lemon")).click()
    expect(page.locator("#panel .verdict")).to_contain_text("lemon")
    expect(page.locator("#panel .verdict")).to_be_in_viewport()
    tops = [page.locator(each).bounding_box()["y"] for each in ("#examples", "#photo", "#panel .verdict")]
    assert tops == sorted(tops)
    assert page.evaluate("scrollY") == 0


@pytest.mark.parametrize("locale", ["en-US", "ja-JP"])
def test_no_tab_says_anything_on_the_console_and_finds_all_its_files(context, ready, locale):
    language, said, lost = locale[:2], [], []
    page = context(locale=locale).new_page()
    page.on("console", lambda line: said.append(line.text) if line.type in ("warning", "error") else None)
    page.on("response", lambda answer: lost.append(answer.url) if answer.status >= 400 else None)
    page.goto(ready)
    expect(page.locator("html.built")).to_be_attached()
    for name, shown in TABS.items():
        open_tab(page, language, f"tab_{name}", shown)
        page.wait_for_timeout(300)
    open_tab(page, language, "tab_classify", "#panel .verdict")
    page.locator("#photo input[type=file]").first.set_input_files(str(EXAMPLES[3]))
    expect(page.locator("#panel .verdict")).to_contain_text(name_of(language, "class", "lemon"))
    page.close()
    assert not said and not lost


@pytest.mark.parametrize("place", ["#photo", "#explore-photo", "#compare-photo"])
def test_a_file_too_large_is_refused_in_a_sentence_and_photo_and_answer_stay(
    open_page, ready, tmp_path, place
):
    tab = {"#photo": "classify", "#explore-photo": "explore", "#compare-photo": "compare"}[place]
    page, large = open_page(f"?tab={tab}"), tmp_path / "large.jpg"
    with large.open("wb") as file:
        file.truncate(31 << 20)
    page.locator(f"{place} input[type=file]").first.set_input_files(str(large))
    said = say("en", "image_file_too_large", max_bytes=30)
    expect(page.locator(".toast-body")).to_contain_text(said)
    expect(page.locator(f"{place} img").first).to_be_visible()
    if tab == "classify":
        expect(page.locator("#panel .verdict")).to_be_visible()


@pytest.mark.parametrize(("tab", "section"), [("classify", "#many"), ("compare", "#compare-many")])
def test_of_several_files_too_a_large_one_is_refused_in_a_sentence(open_page, ready, tmp_path, tab, section):
    page, large = open_page(f"?tab={tab}"), tmp_path / "large.jpg"
    with large.open("wb") as file:
        file.truncate(31 << 20)
    page.locator(f"{section} button").first.click()
    page.locator(f"{section} input[type=file]").first.set_input_files([str(EXAMPLES[0]), str(large)])
    said = say("en", "image_file_too_large", max_bytes=30)
    expect(page.locator(".toast-body")).to_contain_text(said)
    expect(page.locator(f"{section} table")).to_have_count(0)


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_damaged_photo_is_refused_where_the_answer_would_be_and_nowhere_else(
    open_page, ready, tmp_path, language
):
    page, damaged = open_page(f"?tab=classify&lang={language}"), tmp_path / "damaged.jpg"
    damaged.write_bytes(b"\xff\xd8\xff\xe0" + bytes(2000))
    page.locator("#photo input[type=file]").first.set_input_files(str(damaged))
    expect(page.locator("#panel [role=alert]")).to_have_text(say(language, "image_not_an_image"))
    page.wait_for_timeout(500)
    expect(page.locator(".toast-body")).to_have_count(0)
    page.locator("#photo input[type=file]").first.set_input_files(str(EXAMPLES[3]))
    expect(page.locator("#panel .verdict")).to_contain_text(name_of(language, "class", "lemon"))


# Addresses


def test_the_link_is_copied_again_and_again_and_its_button_speaks_another_language(open_page):
    page = open_page()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    link = page.locator("#link")
    for _ in range(2):
        link.click()
        expect(link).to_have_text(say("en", "copied"))
        assert page.evaluate("navigator.clipboard.readText()") == page.url
        expect(link).to_have_text(say("en", "copy_link"))
    link.click()
    page.get_by_label("日本語").check()
    page.wait_for_timeout(2000)  # for the usual words
    expect(link).to_have_text(say("ja", "copy_link"))


def test_tabs_topics_and_studies_have_addresses_to_go_back_to_and_to_reload(open_page):
    page = open_page()
    open_tab(page, "en", "tab_lab", "#lab-image figure")
    page.wait_for_url(re.compile(r"\?tab=lab"))
    page.locator("#lab-controls .topics summary").click()
    page.locator('#lab-controls [data-go="gradients"]').click()
    page.wait_for_url(re.compile(r"topic=gradients"))
    form = page.locator('#lab-controls form[data-topic="gradients"]')
    expect(form).to_be_visible()
    form.locator("[name=depth]").fill("30")
    page.wait_for_url(re.compile(r"depth=30"))
    open_tab(page, "en", "tab_results", "#studies svg")
    page.locator("#studies [data-study]").nth(1).click()
    page.wait_for_url(re.compile(r"tab=results&study="))
    page.go_back()
    page.go_back()
    expect(form).to_be_visible()
    page.reload()
    expect(form.locator("[name=depth]")).to_have_value("30")
    page.go_back()
    expect(page.locator('#lab-controls form[data-topic="pooling"]')).to_be_visible()
    page.go_back()
    expect(page.locator("#panel .verdict")).to_be_visible()


def test_the_language_of_the_page_stays_in_its_address_on_the_way_back(open_page):
    page = open_page("?tab=classify")
    open_tab(page, "en", "tab_lab", "#lab-image figure")
    page.get_by_label("日本語").check()
    page.wait_for_url(re.compile(r"lang=ja"))
    page.go_back()
    expect(page.locator("#panel")).to_be_visible()
    page.wait_for_url(re.compile(r"tab=classify.*lang=ja"))
    page.reload()
    expect(page.locator("html")).to_have_attribute("lang", "ja")


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("?tab=explore", "#design-A svg"),
        ("?tab=lab&topic=cost&width=512", 'form[data-topic="cost"]'),
        ("?tab=results&study=stem", '#studies [data-study="stem"][aria-current]'),
        ("?tab=compare&reference=resnet8_cifar10", "#compare-go"),
    ],
)
def test_an_address_opens_what_it_names(open_page, query, shown):
    page = open_page(query)
    expect(page.locator(shown).first).to_be_visible()
    name = query.split("=")[1].split("&")[0]
    expect(page.locator(f'[role=tab][data-tab-id="{name}"]')).to_have_attribute("aria-selected", "true")


# Access


SCHEMES = {"light": {"color_scheme": "light"}, "dark": {"color_scheme": "dark"} | PHONE}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_no_violation_on_any_tab(open_page, ready, scheme):
    page, found = open_page(**SCHEMES[scheme]), []
    for name, shown in TABS.items():
        open_tab(page, "en", f"tab_{name}", shown)
        answer = Axe().run(page, options={"runOnly": WCAG}).response
        found += [(name, each["id"], each["nodes"][0]["html"][:200]) for each in answer["violations"]]
    assert not found


SMALL = """() => [...document.querySelectorAll("button, summary, select, a[download], #language label")]
  .filter((each) => each.checkVisibility({ visibilityProperty: true }) && each.closest(".gradio-container"))
  .map((each) => [each.getBoundingClientRect().height, each.outerHTML.slice(0, 120)])
  .filter(([height, html]) => height > 1 && height < 43.5 && !html.includes("show-api"))"""
UNREACHABLE = """() => [...document.querySelectorAll("button, summary, select, a[href], input")]
  .filter((each) => each.checkVisibility({ visibilityProperty: true }) && !each.disabled)
  .filter((each) => each.role !== "tab" && each.type !== "file")
  .filter((each) => each.tabIndex < 0).map((each) => each.outerHTML.slice(0, 120))"""


def test_what_one_taps_on_a_phone_is_44_pixels_high_and_in_reach_of_the_keyboard(open_page, ready):
    page = open_page(**PHONE)
    for name, shown in TABS.items():
        open_tab(page, "en", f"tab_{name}", shown)
        assert page.evaluate(SMALL) == [], name
        assert page.evaluate(UNREACHABLE) == [], name


# Several at once


def test_several_photos_give_a_table_with_names_small_copies_and_a_download(open_page, tmp_path):
    paths = [tmp_path / f"photo{seed}.png" for seed in (0, 1)]
    for seed, path in enumerate(paths):
        image(seed).save(path)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    page = open_page()
    page.locator("#many button").first.click()
    page.locator("#many input[type=file]").first.set_input_files(
        [*map(str, paths), str(tmp_path / "broken.jpg")]
    )
    rows = page.locator("#many-panel tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(2)).to_contain_text("broken.jpg")
    expect(rows.locator("img")).to_have_count(2)
    address = page.locator("#many-panel a[download]").get_attribute("href")
    lines = [*csv.DictReader(io.StringIO(base64.b64decode(address.split(",")[1]).decode()))]
    model = resnet_hub.from_pretrained(DEFAULT_MODEL)
    expected = [answer.top[0] for answer in classify(model, paths, top_k=1)]
    assert [line["label"] for line in lines[:2]] == [label for label, _ in expected]
    assert [float(line["probability"]) for line in lines[:2]] == pytest.approx(
        [p for _, p in expected], abs=1e-4
    )
    assert lines[2]["file"] == "broken.jpg" and lines[2]["error"]


def test_several_photos_follow_the_model_and_a_refusal_takes_the_table_s_place(open_page, tmp_path):
    image(0).save(tmp_path / "photo.png")
    page = open_page()
    page.locator("#many button").first.click()
    page.locator("#many input[type=file]").first.set_input_files(str(tmp_path / "photo.png"))
    expect(page.locator("#many-panel tbody tr")).to_have_count(1)
    for model, shown in (("timm/resnet18.a1_in1k", "[role=alert]"), ("resnet20_cifar10", "tbody tr")):
        box = page.locator("#model input")
        box.click()
        page.get_by_role("option", name=model).first.click()
        expect(page.locator("#many-panel :is([role=alert], tbody tr)")).to_have_count(1)
        expect(page.locator(f"#many-panel {shown}")).to_have_count(1)


def test_a_second_model_answers_beside_the_first(open_page, ready):
    page = open_page("?tab=classify&beside=resnet20_cifar10")
    expect(page.locator("#panel .models section")).to_have_count(2)
    expect(page.locator("#panel .models h3")).to_have_text([DEFAULT_MODEL, "resnet20_cifar10"])
    page.get_by_label("日本語").check()
    answer = classify(resnet_hub.from_pretrained("resnet20_cifar10"), [EXAMPLES[0]])[0]
    expect(page.locator("#panel .verdict").nth(1)).to_have_text(statement("ja", answer))


# Agents


def test_agents_find_the_api_as_documented_tools(app_url):
    tools = {tool["name"]: tool for tool in httpx.get(f"{app_url}gradio_api/mcp/schema", timeout=60).json()}
    ours = {name.rsplit("_", 1)[-1]: tool for name, tool in tools.items()}
    assert ours.keys() >= {"classify", "compare", "explore"}
    assert "photo" in ours["classify"]["description"]
    properties = ours["explore"]["inputSchema"]["properties"]
    assert "imagenet, cifar or deep" in json.dumps(properties)


def test_a_look_inside_without_a_photo_is_refused_in_a_sentence(open_page, ready):
    page = open_page()
    page.get_by_role("button", name="Remove Image").first.click()
    expect(page.locator("#panel .verdict")).to_have_count(0)
    page.locator("#inside").click()
    expect(page.locator(".toast-body")).to_contain_text(say("en", "inside_first"))


def test_one_click_leads_from_an_answer_to_the_network_s_maps_of_that_photo(open_page, ready):
    page = open_page()
    page.locator("#inside").click()
    maps = page.locator("#maps .design").first
    expect(maps.locator(".notice.fine")).to_contain_text(DEFAULT_MODEL)
    page.wait_for_url(re.compile(r"tab=explore"))
    maps.locator(".map").last.click()
    frame = maps.locator(".input i")
    expect(frame).to_be_visible()
    assert frame.evaluate("frame => frame.style.width") == "100%"  # the last stage sees all of the photo
