"""The page in a real browser: headless Chromium, at desktop and phone width."""

import re

import pytest
from helpers.browsing import IN_BROWSER
from helpers.images import image

import resnet_hub
from resnet_hub.predict import DEFAULT_MODEL, classify
from resnet_hub.ui.classify.page import statement
from resnet_hub.ui.shared.page import FOLDER

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e .[dev]")
expect = playwright.expect
pytestmark = IN_BROWSER


def upload(page, path):
    page.locator("#photo input[type=file]").first.set_input_files(str(path))


def expect_answer_to(page, path, language: str):
    """The page opens with an example's answer; wait for this photo's."""
    (answer,) = classify(resnet_hub.from_pretrained(DEFAULT_MODEL), [path])
    expect(page.locator("#panel .verdict")).to_have_text(statement(language, answer))


def test_an_uploaded_photo_is_classified_and_no_request_leaves_the_machine(open_page, photo):
    page = open_page()
    upload(page, photo)
    model = resnet_hub.from_pretrained(DEFAULT_MODEL)
    answer = classify(model, [photo])[0]
    expect(page.locator("#panel .verdict")).to_have_text(statement("en", answer))
    expect(page.locator("#panel .guesses li").first).to_contain_text(answer.top[0][0])
    width = page.locator("#panel img.seen").first.evaluate("image => image.naturalWidth")
    assert width == model.preprocess.input_size[2]
    assert {host for host in page.hosts if host} <= {"127.0.0.1"}


def test_switching_the_model_answers_again(open_page, photo, app_folder):
    page = open_page()
    upload(page, photo)
    expect(page.locator("#panel .facts")).to_contain_text(DEFAULT_MODEL)
    page.locator("#model input").click()
    page.get_by_role("option", name=str(app_folder / "other")).click()
    expect(page.locator("#panel .facts")).to_contain_text(str(app_folder / "other"))


def test_the_browser_s_language_is_used_and_can_be_switched_with_the_result_on_the_page(open_page, photo):
    page = open_page(locale="ja-JP")
    expect(page.get_by_role("tab", name="分類")).to_be_visible()
    upload(page, photo)
    answer = classify(resnet_hub.from_pretrained(DEFAULT_MODEL), [photo])[0]
    expect(page.locator("#panel .verdict")).to_have_text(statement("ja", answer))
    page.get_by_label("English").check()
    expect(page.locator("#panel .verdict")).to_have_text(statement("en", answer))
    expect(page.get_by_role("tab", name="Classify")).to_be_visible()


def test_grad_cam_is_drawn_with_the_answer(open_page, photo):
    page = open_page()
    upload(page, photo)
    answer = classify(resnet_hub.from_pretrained(DEFAULT_MODEL), [photo])[0]
    expect(page.locator("#panel .verdict")).to_have_text(statement("en", answer))
    expect(page.locator("#panel img.seen")).to_have_count(2)
    page.get_by_label("日本語").check()
    expect(page.locator("#panel")).to_contain_text("という答えに影響しました")
    expect(page.locator("#panel img.seen")).to_have_count(2)


def test_a_broken_file_takes_the_answer_away_and_the_next_photo_works(open_page, photo, tmp_path):
    page = open_page()
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"this is not an image")
    upload(page, photo)
    expect(page.locator("#panel .guesses li").first).not_to_contain_text("koala")  # the answer of this photo
    expect(page.locator("#panel .verdict")).to_be_visible()
    upload(page, broken)
    expect(page.get_by_text(re.compile("not an image that can be read")).first).to_be_visible()
    expect(page.locator("#panel [role=alert]")).to_contain_text("not an image that can be read")
    expect(page.locator("#panel .verdict")).to_have_count(0)
    page.get_by_label("日本語").check()
    expect(page.locator("#panel [role=alert]")).to_contain_text("読み取れる画像ではありません")
    page.get_by_label("English").check()
    expect(page.locator("#panel [role=alert]")).to_contain_text("not an image that can be read")
    page.reload()
    upload(page, photo)
    expect_answer_to(page, photo, "en")


def test_examples_and_messages_follow_the_language(open_page, tmp_path):
    page = open_page()
    page.get_by_label("日本語").check()
    page.locator("#examples").get_by_role("button", name="コアラ").click()
    answer = classify(resnet_hub.from_pretrained(DEFAULT_MODEL), [FOLDER / "koala.jpg"])[0]
    expect(page.locator("#panel .verdict")).to_have_text(statement("ja", answer))
    expect(page.locator("#photo")).to_contain_text("写真")
    page.reload()
    page.get_by_label("日本語").check()
    expect(page.get_by_role("tab", name="分類")).to_be_visible()
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"this is not an image")
    upload(page, broken)
    expect(page.get_by_text("読み取れる画像ではありません").first).to_be_visible()


def test_an_unfamiliar_image_is_flagged(open_page, tmp_path):
    model = resnet_hub.from_pretrained(DEFAULT_MODEL)
    odd = next(one for seed in range(200) if classify(model, [one := image(seed)])[0].unfamiliar)
    odd.save(tmp_path / "odd.png")
    page = open_page()
    upload(page, tmp_path / "odd.png")
    expect(page.locator("#panel .notice.unfamiliar")).to_be_visible()


@pytest.mark.parametrize(("scheme", "locale"), [("light", "en-US"), ("dark", "ja-JP")])
def test_a_phone_shows_the_page_without_scrolling_sideways(open_page, photo, scheme, locale):
    page = open_page(viewport={"width": 390, "height": 844}, color_scheme=scheme, locale=locale)
    upload(page, photo)
    expect_answer_to(page, photo, locale[:2])
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0


def test_the_card_of_the_chosen_model_is_folded_under_the_picker_and_asks_nobody(open_page):
    page = open_page()
    page.locator("#card-fold button").first.click()
    expect(page.locator("#card h1")).to_contain_text("resnet")
    expect(page.locator("#card h2").first).to_have_text("The network")
    expect(page.locator("#card table").first).to_be_visible()
    expect(page.locator("#card img")).to_have_count(0)
    page.get_by_label("日本語").check()
    expect(page.locator("#card h2").first).to_have_text("ネットワーク")
    assert {host for host in page.hosts if host} <= {"127.0.0.1"}


def test_a_phone_shows_a_card_without_scrolling_sideways(open_page):
    page = open_page(viewport={"width": 390, "height": 844}, locale="ja-JP")
    page.locator("#card-fold button").first.click()
    expect(page.locator("#card table").first).to_be_visible()
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0
