"""The Explore tab in headless Chromium: every control moves the numbers, an address brings them back."""

import csv
import io
import re

import pytest
from helpers.browsing import IN_BROWSER

import resnet_hub
from resnet_hub.geometry import totals, trace
from resnet_hub.models.flags import parse_size

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e .[dev]")
expect = playwright.expect
pytestmark = IN_BROWSER
START = "?a=resnet50.32&b=resnet50.32.stem-cifar"


@pytest.fixture
def explorer(open_page):
    """explorer(query, **context options) -> a page with the Explore tab open."""

    def open_(query: str = "", **options):
        page = open_page(query, **options)
        if not query:
            page.get_by_role("tab").nth(1).click()
        expect(page.locator("#design-A .drawing svg")).to_be_visible()
        return page

    return open_


def costs(page) -> list[str]:
    """Parameters and multiply-adds of A and B, as the page says them."""
    cells = page.locator("#compared .totals tbody tr")
    return [cells.nth(line).locator("td").nth(side).inner_text() for line in (0, 1) for side in (0, 1)]


def expected(a: dict, b: dict) -> list[str]:
    sums = [totals(trace(**design)) for design in (a, b)]
    return [f"{value:,}" for key in ("params", "macs") for value in (getattr(s, key) for s in sums)]


def choose(page, side: str, label: str, option: str) -> None:
    controls = page.locator(f"#design-{side}")
    controls.get_by_label(label, exact=True).click()
    controls.get_by_role("option", name=option, exact=True).click()


def unfold(page, side: str) -> None:
    """Open the controls that few designs need."""
    page.locator(f"#design-{side} .advanced button").first.click()


def expect_costs(page, a: dict, b: dict) -> None:
    wanted = expected(a, b)
    first = page.locator("#compared .totals tbody tr").nth(1).locator("td")
    expect(first.nth(0)).to_have_text(wanted[2])
    expect(first.nth(1)).to_have_text(wanted[3])
    assert costs(page) == wanted


A = {"name_or_config": "resnet50", "input_size": 32}
B = A | {"stem": "cifar"}
FIRST_IS_SLOW = """() => {  // the page gets its next answer late, and those that follow at once
  const usual = window.fetch;
  let late = 3000;
  window.fetch = async (...asked) => {
    const wait = String(asked[0]).includes("/run/predict") ? late : 0;
    if (wait) late = 0;
    const answer = await usual(...asked);
    await new Promise((done) => setTimeout(done, wait));
    return answer;
  };
}"""


def test_it_starts_with_imagenet_s_stem_against_cifar_s(explorer):
    page = explorer()
    expect_costs(page, A, B)
    expect(page.locator("#design-A .stages")).to_contain_text("2048×1×1")
    expect(page.locator("#design-B .stages")).to_contain_text("2048×4×4")


def test_each_control_moves_the_numbers(explorer):
    page = explorer()
    side = page.locator("#design-A")
    choose(page, "A", "Network", "resnet101")
    expect_costs(page, {"name_or_config": "resnet101", "input_size": 32}, B)
    choose(page, "A", "Network", "resnet50")
    expect_costs(page, A, B)
    choose(page, "A", "Input (H×W)", "96")
    expect_costs(page, A | {"input_size": 96}, B)
    choose(page, "A", "Stem", "deep")
    design = A | {"input_size": 96, "stem": "deep"}
    expect_costs(page, design, B)
    side.get_by_label("Strides", exact=True).fill("1,2,1,2")
    expect_costs(page, design := design | {"strides": (1, 2, 1, 2)}, B)
    side.get_by_label("Max pooling after the stem").uncheck()
    expect_costs(page, design := design | {"maxpool": False}, B)
    unfold(page, "A")
    choose(page, "A", "Which convolution halves the size", "1×1 (v1)")
    expect_costs(page, design := design | {"stride_in": "1x1"}, B)
    choose(page, "A", "Shortcut", "zero padding")
    expect_costs(page, design | {"shortcut": "zeropad"}, B)
    choose(page, "A", "Stem", "CIFAR")
    choose(page, "A", "Stem", "ImageNet")
    expect(side.get_by_label("Max pooling after the stem")).to_be_checked()


def test_any_size_can_be_typed(explorer):
    page = explorer()
    box = page.locator("#design-B").get_by_label("Input (H×W)", exact=True)
    for text, key in (("47x61", "Enter"), ("33", "Tab")):
        box.fill(text)
        box.press(key)
        expect_costs(page, A, B | {"input_size": parse_size(text)})


def test_an_impossible_design_is_explained_and_the_other_one_stays(explorer):
    page = explorer()
    for label, text, words in (
        ("Input (H×W)", "0", "1 to 4096"),
        ("Input (H×W)", "5000x5000", "5000x5000 is out of range"),
        ("Input (H×W)", "thirty", "cannot be read"),
        ("Strides", "1,2,2,0", "1 to 8"),
        ("Strides", "1,2", "has 4 stages"),
        ("Strides", "one", "cannot be read"),
    ):
        box = page.locator("#design-A").get_by_label(label, exact=True)
        usual = box.input_value()
        box.fill(text)
        box.press("Enter")
        expect(page.locator("#design-A [role=alert]")).to_contain_text(words)
        expect(page.locator("#design-B .drawing svg")).to_be_visible()
        expect(page.locator("#compared")).to_contain_text("1,299,857,408")
        box.fill(usual)
        box.press("Enter")
        expect(page.locator("#design-A [role=alert]")).to_have_count(0)


def test_controls_a_network_does_not_have_are_out_of_the_way(explorer):
    page = explorer()
    side = page.locator("#design-A")
    choose(page, "A", "Network", "resnet18")
    unfold(page, "A")
    expect(side.get_by_label("Which convolution halves the size", exact=True)).to_be_disabled()
    choose(page, "A", "Network", "cifar10net")
    expect(side.get_by_label("Stem", exact=True)).to_have_count(0)
    expect(side).to_contain_text("cifar10net has no residual blocks")
    choose(page, "A", "Network", "resnet20_cifar")
    expect(side.get_by_label("Strides", exact=True)).to_have_value("1,2,2")
    expect_costs(page, {"name_or_config": "resnet20_cifar", "input_size": 32}, B)


def test_advice_is_followed_with_one_click(explorer):
    page = explorer()
    page.locator("#design-A [data-apply]").first.click()
    expect_costs(page, B, B)
    expect(page.locator("#design-A")).to_contain_text("Looks good")
    expect(page.locator("#design-A").get_by_label("Max pooling after the stem")).not_to_be_checked()


def test_the_address_follows_the_controls_and_brings_the_same_state(explorer):
    page = explorer()
    choose(page, "A", "Network", "resnet34")
    page.locator("#design-B").get_by_label("Strides", exact=True).fill("1,2,1,1")
    wanted = [{"name_or_config": "resnet34", "input_size": 32}, B | {"strides": (1, 2, 1, 1)}]
    expect_costs(page, *wanted)
    expect(page).to_have_url(
        re.compile(r"\?tab=explore&a=resnet34\.32&b=resnet50\.32\.stem-cifar\.strides-1-2-1-1$")
    )
    again = explorer(page.url.partition("/")[2].partition("/")[2].partition("/")[2], locale="ja-JP")
    expect_costs(again, *wanted)
    expect(again.locator("#design-B input[type=text], #design-B textarea").nth(0)).to_be_visible()
    expect(again.get_by_label("ストライド", exact=True).nth(1)).to_have_value("1,2,1,1")


def test_of_changes_made_during_a_slow_answer_none_is_lost(explorer):
    page = explorer()
    page.evaluate(FIRST_IS_SLOW)
    page.locator("#design-A").get_by_label("Strides", exact=True).fill("1,2,1,1")
    choose(page, "B", "Network", "plain20_cifar")  # waits, and gives way to the next
    choose(page, "A", "Input (H×W)", "64")
    wanted = {"name_or_config": "resnet50", "input_size": 64, "strides": (1, 2, 1, 1)}
    expect_costs(page, wanted, {"name_or_config": "plain20_cifar", "input_size": 32})
    page.wait_for_timeout(3000)  # for an answer that would come late
    expect(page).to_have_url(re.compile(r"a=resnet50\.64\.strides-1-2-1-1&b=plain20_cifar\.32$"))
    expect(page.locator("#design-B").get_by_label("Strides", exact=True)).to_have_value("1,2,2")


@pytest.mark.parametrize("locale", ["en-US", "ja-JP"])
def test_three_stage_networks_arrive_as_the_link_names_them(explorer, locale):
    """Their strides differ from the first page's: the page changes them and hears of its own change."""
    wanted = ["plain20_cifar", "resnet56_cifar"]
    page = explorer("?a=plain20_cifar.32&b=resnet56_cifar.32", locale=locale)
    words = "コードと図を保存" if locale == "ja-JP" else "Export"
    expect(page.locator("#take")).to_contain_text(words)
    page.wait_for_timeout(2000)  # for an answer that would come late
    for i, name in enumerate(wanted):
        code = f'import resnet_hub\n\nmodel = resnet_hub.create_model("{name}")'
        expect(page.locator("#take pre").nth(i)).to_have_text(code)
    expect(page).to_have_url(re.compile(r"a=plain20_cifar\.32&b=resnet56_cifar\.32$"))


def test_a_three_stage_network_chosen_from_the_list_is_the_published_one(explorer):
    page = explorer()
    choose(page, "B", "Network", "plain20_cifar")
    expect(page).to_have_url(re.compile(r"b=plain20_cifar\.32$"))
    page.wait_for_timeout(2000)  # for an answer that would come late
    expect(page.locator("#take pre").nth(1)).to_contain_text('create_model("plain20_cifar")')
    unfold(page, "B")
    choose(page, "B", "Shortcut", "zero padding")
    expect(page.locator("#take pre").nth(1)).to_contain_text('("plain20_cifar", shortcut="zeropad")')


def test_a_nonsense_address_gives_a_message_in_each_language_and_the_usual_designs(explorer):
    page = explorer("?a=resnet50.32.stem-7x7&b=%00%3Cscript%3E", locale="ja-JP")
    messages = page.locator("#design-A [role=alert]"), page.locator("#design-B [role=alert]")
    expect(page.locator("#take")).to_contain_text("コードと図を保存")
    expect(messages[0]).to_contain_text("imagenet, cifar, deep")
    expect(messages[1]).to_contain_text("というネットワークはありません")
    expect(page.locator("html")).to_have_attribute("lang", "ja")
    page.get_by_label("English").check()
    expect(messages[0]).to_contain_text("imagenet, cifar, deep")
    expect(messages[1]).to_contain_text("There is no network")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect_costs(page, A, B)
    choose(page, "A", "Network", "resnet34")
    expect(messages[0]).to_have_count(0)
    page.get_by_label("日本語").check()
    expect(page.locator("#take")).to_contain_text("コードと図を保存")
    expect(messages[0]).to_have_count(0)


def test_an_image_is_run_through_both_designs(explorer, photo):
    page = explorer("?a=resnet20_cifar.32&b=resnet18.32")
    page.locator("#explore-photo input[type=file]").set_input_files(str(photo))
    expect(page.locator(f"#explore-photo img[src*='{photo.name}']")).to_be_visible()
    page.locator("#run").click()
    sides = page.locator("#maps .design")
    expect(sides.nth(0)).to_contain_text("Trained weights: resnet20_cifar10")
    expect(sides.nth(1)).to_contain_text("Random weights")
    widths = [
        side.locator("figure").last.locator("img").first.evaluate("image => image.naturalWidth")
        for side in (sides.nth(0), sides.nth(1))
    ]
    assert widths == [8, 1]
    page.get_by_label("日本語").check()
    expect(sides.nth(1)).to_contain_text("重みはランダムです")


def test_maps_of_an_earlier_design_or_photo_are_marked_and_stay_marked(explorer, photo):
    page = explorer("?a=resnet20_cifar.32&b=plain20_cifar.32")
    side, stale = page.locator("#maps .design").first, re.compile("stale")
    strides = page.locator("#strides-A").locator("input, textarea")
    expect(page.locator("#take pre").first).to_contain_text("resnet20_cifar")  # the page has arrived
    page.locator("#run").click()
    strides.fill("1,2,1")
    expect(side).to_have_class(stale)
    page.get_by_label("日本語").check()
    expect(side).to_contain_text("学習済みの重み")
    expect(side).to_have_class(stale)
    page.locator("#run").click()
    expect(side).to_contain_text("重みはランダムです")
    expect(side).not_to_have_class(stale)
    page.locator("#explore-photo input[type=file]").set_input_files(str(photo))
    expect(side).to_have_class(stale)
    page.locator("#run").click()
    expect(side).not_to_have_class(stale)


def test_a_tap_on_a_wide_map_takes_the_position_under_the_finger(explorer):
    page = explorer("?a=resnet20_cifar.32x256&b=lenet5.28", viewport={"width": 390, "height": 844})
    expect(page.locator("#take pre").first).to_contain_text("resnet20_cifar")  # the page has arrived
    page.locator("#run").click()
    maps = page.locator("#maps .design").first
    image = maps.locator(".map img").first
    image.scroll_into_view_if_needed()
    box = image.bounding_box()
    assert maps.locator(".map").first.bounding_box()["height"] > 2 * box["height"]
    page.mouse.click(box["x"] + box["width"] - 1, box["y"] + box["height"] - 1)
    frame = maps.locator(".input i")
    expect(frame).to_be_visible()
    ends = frame.evaluate("({ style }) => [style.top, style.height, style.left, style.width].map(parseFloat)")
    assert (ends[0] + ends[1], ends[2] + ends[3]) == pytest.approx((100, 100))


def test_a_run_that_would_take_too_much_is_refused_at_once(explorer, photo):
    page = explorer("?a=resnet152.4096&b=resnet20_cifar.32")
    page.locator("#explore-photo input[type=file]").set_input_files(str(photo))
    page.locator("#run").click()
    expect(page.locator("#maps [role=alert]")).to_contain_text("the limit here is")
    expect(page.locator("#maps .design").nth(1)).to_contain_text("Trained weights")


def test_a_broken_image_gives_a_message(explorer, tmp_path):
    page = explorer()
    (tmp_path / "broken.jpg").write_bytes(b"this is not an image")
    page.locator("#explore-photo input[type=file]").set_input_files(str(tmp_path / "broken.jpg"))
    page.locator("#run").click()
    expect(page.get_by_text(re.compile("not an image that can be read")).first).to_be_visible()


def test_python_table_and_drawings_can_be_taken_away(explorer):
    page = explorer("?a=resnet18.96x64.strides-1-2-2-1&b=resnet50.32")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    one = page.locator("#take .design").first
    expect(one.locator("pre")).to_contain_text("resnet18")
    one.locator("[data-copy=python]").click()
    code = page.evaluate("navigator.clipboard.readText()")
    names: dict = {}
    exec(code, names)
    wanted = trace("resnet18", (96, 64), strides=(1, 2, 2, 1))
    assert sum(p.numel() for p in names["model"].parameters()) == totals(wanted).params
    assert names["model"].config == resnet_hub.model_config(
        "resnet18", input_size=(96, 64), strides=(1, 2, 2, 1)
    )
    page.locator("#take [data-copy=link]").click()
    assert page.evaluate("navigator.clipboard.readText()") == page.url.replace("tab=explore&", "")

    def downloaded(selector: str) -> bytes:
        with page.expect_download() as waiting:
            one.locator(selector).click()
        return waiting.value.path().read_bytes()

    lines = list(csv.DictReader(io.StringIO(downloaded("[download$=csv]").decode())))
    assert [line["name"] for line in lines] == [row.name for row in wanted]
    assert sum(int(line["macs"]) for line in lines) == totals(wanted).macs
    assert downloaded("[data-svg]").startswith(b"<svg")
    assert downloaded("[data-png]").startswith(b"\x89PNG")


@pytest.mark.parametrize(("scheme", "locale"), [("light", "en-US"), ("dark", "ja-JP")])
def test_a_phone_shows_the_tab_without_scrolling_sideways(explorer, scheme, locale):
    page = explorer(viewport={"width": 390, "height": 844}, color_scheme=scheme, locale=locale)
    page.locator("#layers button").first.click()
    expect(page.locator("#layers table").first).to_be_visible()
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0
    assert {host for host in page.hosts if host} <= {"127.0.0.1"}


def test_the_language_switch_translates_the_tab(explorer):
    page = explorer()
    page.get_by_label("日本語").check()
    expect(page.locator("#design-A")).to_contain_text("ステージごと")
    expect(page.locator("#design-A").get_by_label("ネットワーク", exact=True)).to_be_visible()
    expect(page.locator("#take")).to_contain_text("コードと図を保存")
    for text in (page.locator("#design-A").inner_text(), page.locator("#compared").inner_text()):
        assert not re.search(r"Stage by stage|Looks|image|pixels", text)
