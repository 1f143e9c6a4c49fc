"""The promises of the app about models from the Hub: any public one can be typed in unless that is switched
off, its size is said first, memory stays bounded, a stranger's card can do no harm. The Hub is on loopback.
"""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from helpers import ROOT
from helpers.checkpoints import tiny
from helpers.loopback_hub import TOKEN, LoopbackHub, once, serve
from helpers.serving import served
from PIL import Image

import resnet_hub
from resnet_hub import predict
from resnet_hub.hub.fetch import CheckpointError
from resnet_hub.ui.cards import card_html, shown_card
from resnet_hub.ui.classify.page import overlay
from resnet_hub.ui.limits import Limits
from resnet_hub.ui.shared.loading import load
from resnet_hub.ui.shared.text import say
from resnet_hub.ui.shelf import Recent, Shelf, TooLarge

REPO = "somebody/small-net"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("net") / "net"
    tiny(num_classes=4).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def online(saved):
    """A Hub on loopback with a public and a private repository, for processes of their own."""
    hub = LoopbackHub()
    server = serve(hub)
    hub.add(REPO, saved)
    hub.add("somebody/other-net", saved)
    hub.add("owner/private-net", saved, private=True)
    yield hub
    server.shutdown()


@pytest.fixture(scope="module")
def client(tmp_path_factory, online):
    env = {"HF_ENDPOINT": online.endpoint, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN}
    with served([sys.executable, "app.py"], tmp_path_factory.mktemp("app"), **env) as address:
        yield Client(address, verbose=False)


def ask(client, photo, model: str) -> dict[str, float]:
    answer = client.predict(handle_file(str(photo)), model, api_name="/classify")
    return {c["label"]: c["confidence"] for c in answer[0]["confidences"]}


def test_a_typed_repository_answers_as_the_library_does(client, photo, saved):
    expected = dict(resnet_hub.from_pretrained(saved).predict(photo)[0])
    assert ask(client, photo, REPO) == pytest.approx(expected, abs=1e-6)
    assert ask(client, photo, f" {REPO} ") == pytest.approx(expected, abs=1e-6)


def test_visitors_do_not_use_the_owner_s_token(client, photo):
    with pytest.raises(AppError, match="no such repository") as error:
        ask(client, photo, "owner/private-net")
    assert TOKEN not in str(error.value)


@pytest.mark.parametrize("typed", ["resnet_hub/ui", "../hub", "/etc/passwd", "a/b/c", "x" * 300])
def test_a_typed_name_opens_no_directory(client, photo, typed):
    with pytest.raises(AppError, match="not a repository on the Hugging Face Hub"):
        ask(client, photo, typed)


def test_only_listed_models_are_loaded_where_there_is_a_list(hub, saved):
    for repo in (REPO, "somebody/other-net"):
        hub.add(repo, saved)
    shelf = Shelf(only=(REPO,))
    assert load(shelf, REPO, "en", lambda *args, **kwargs: None)
    before = len(hub.requests)
    with pytest.raises(
        gr.Error,
        match=r"is not offered here\. Choose one of: (resnet18_\w+, ){2}resnet20_cifar10, resnet8_cifar10, "
        "plain20_cifar10, " + REPO,
    ):
        load(shelf, "somebody/other-net", "en", lambda *args, **kwargs: None)
    assert len(hub.requests) == before


@pytest.mark.parametrize("given", ["file", "text"])
def test_the_list_is_a_file_or_text(given, tmp_path):
    from app import parse_arguments

    (tmp_path / "list.txt").write_text("# mine\nowner/a\n\nowner/b\n")
    text = str(tmp_path / "list.txt") if given == "file" else "owner/a, owner/b"
    assert parse_arguments(["--models-only-from", text]).models_only_from == ("owner/a", "owner/b")


def test_several_models_follow_one_flag_or_many(capsys):
    from app import parse_arguments

    assert parse_arguments(["--model", "a/b", "c/d", "--model", "e/f"]).model == ["a/b", "c/d", "e/f"]
    with pytest.raises(SystemExit):
        parse_arguments(["--model", "x" * 300])
    assert "not a checkpoint directory, an ONNX file or a Hub repository id" in capsys.readouterr().err


def test_a_list_with_a_bad_name_ends_with_one_line_and_2():
    command = [sys.executable, "app.py", "--models-only-from", "owner/a,/etc"]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    *_, line = out.stderr.splitlines()
    assert out.returncode == 2 and "'/etc' is neither a file nor a Hub repository id" in line


def test_a_list_may_begin_as_notepad_saves_it_and_one_that_cannot_be_read_is_one_line(tmp_path, capsys):
    from app import parse_arguments

    (tmp_path / "list.txt").write_text("owner/a\n", encoding="utf-8-sig")
    given = ["--models-only-from", str(tmp_path / "list.txt")]
    assert parse_arguments(given).models_only_from == ("owner/a",)
    (tmp_path / "list.txt").write_text("owner/a\n", encoding="utf-16")
    with pytest.raises(SystemExit):
        parse_arguments(given)
    assert f"'{tmp_path}/list.txt' cannot be read: " in capsys.readouterr().err.splitlines()[-1]


# The shelf


def announced(shelf: Shelf) -> int | None:
    """The bytes that loading REPO says it downloads; None where it says nothing."""
    sizes = []
    shelf.get(REPO, announce=sizes.append)
    return sum(sizes) if sizes else None


def test_memory_stays_bounded_however_many_repositories_are_named(hub, saved):
    shelf, most = Shelf(), Limits().models
    for i in range(most + 3):
        hub.add(f"somebody/net-{i}", saved)
        shelf.get(f"somebody/net-{i}")
    newest = [f"somebody/net-{i}" for i in range(most + 2, 2, -1)]
    assert shelf.loaded() == newest


def test_what_visitors_name_leaves_nothing_on_the_disk(hub, saved, tmp_path):
    hub.add(REPO, saved)
    Shelf().get(REPO)
    assert not list((tmp_path / "hub_cache").rglob("*.safetensors"))
    Shelf(added=(REPO,)).get(REPO)
    assert list((tmp_path / "hub_cache").rglob("*.safetensors"))


def test_visitors_do_not_get_a_private_model_from_the_owner_s_cache_while_offline(hub, saved):
    hub.add("owner/private-net", saved, private=True)
    resnet_hub.from_pretrained("owner/private-net", token=TOKEN)
    hub.faults.append(lambda *request: "drop")
    assert resnet_hub.from_pretrained("owner/private-net", token=TOKEN).revision  # from the cache
    with pytest.raises(CheckpointError):
        Shelf().get("owner/private-net")


def test_a_visitor_s_repository_may_not_be_huge(hub, saved):
    hub.add(REPO, saved)
    shelf = Shelf(limits=Limits(typed_bytes=1000))
    with pytest.raises(TooLarge):
        shelf.get(REPO)
    with pytest.raises(gr.Error, match="the download limit here is"):
        load(shelf, REPO, "en", lambda *args, **kwargs: None)
    assert not hub.downloads()
    assert announced(Shelf(added=(REPO,))) == pytest.approx(1.1e6, abs=1e5)


def test_a_branch_that_moves_while_a_visitor_loads_does_not_escape_the_size_limit(hub, saved):
    repo = hub.add(REPO, saved)
    first = repo.refs["main"]
    weights = hub.files(REPO)["model.safetensors"]

    def moves(*request):
        repo.commit({"model.safetensors": weights + bytes(100_000)})

    hub.faults = [once(lambda method, path, answer: moves() if path == f"/api/models/{REPO}" else None)]
    shelf = Shelf(limits=Limits(typed_bytes=len(weights) + 50_000))
    load(shelf, REPO, "en", lambda *args, **kwargs: None)
    assert shelf.get(REPO).revision == first != repo.refs["main"]
    assert [path for _, path in hub.requests if path.startswith("/api/")] == [f"/api/models/{REPO}"]


def test_the_size_is_shown_before_the_first_byte_and_then_the_bytes(hub, saved):
    hub.add(REPO, saved)
    seen = []

    def progress(share, desc=None, unit=None):
        seen.append((share, desc, len(hub.downloads())))

    load(Shelf(), REPO, "en", progress)
    announced = next(i for i, (_, desc, _) in enumerate(seen) if desc and "downloading 1 MB" in desc)
    assert seen[announced][2] == 0, "nothing was downloaded yet"
    total = len(hub.files(REPO)["model.safetensors"])
    assert (total, total) in [share for share, *_ in seen[announced:]]


def test_a_model_in_memory_is_not_looked_up_again(hub, saved):
    hub.add(REPO, saved)
    shelf = Shelf()
    load(shelf, REPO, "en", lambda *args, **kwargs: None)
    hub.requests.clear()
    load(shelf, REPO, "en", lambda *args, **kwargs: None)
    assert not hub.requests


def test_no_model_waits_for_another_s_download():
    """Neither one in memory nor any that is yet to be loaded, and these were many enough to share a lock."""
    kept: Recent[str, str] = Recent(200)
    kept.put("in memory", "in memory")
    begun, end, found = threading.Event(), threading.Event(), []

    def hanging() -> str:
        begun.set()
        end.wait(60)
        return "late"

    names = ["in memory", *map(str, range(100))]
    download = threading.Thread(target=kept.get, args=("late", hanging))
    visitor = threading.Thread(
        target=lambda: found.extend(kept.get(name, lambda name=name: name) for name in names), daemon=True
    )
    download.start()
    assert begun.wait(10)
    visitor.start()
    visitor.join(timeout=10)
    end.set()
    download.join()
    assert found == names
    assert not kept._making, "the locks go with the threads that used them"


def test_a_value_asked_for_by_many_at_once_is_made_once():
    kept, made, start = Recent(4), [], threading.Barrier(8)

    def make() -> str:
        made.append(time.sleep(0.2))
        return "value"

    def ask() -> str:
        start.wait(10)
        return kept.get("key", make)

    with ThreadPoolExecutor(8) as pool:
        answers = [each.result() for each in [pool.submit(ask) for _ in range(8)]]
    assert answers == ["value"] * 8 and len(made) == 1


def test_what_is_not_allowed_is_not_loaded(hub, saved):
    hub.add(REPO, saved)
    with pytest.raises(KeyError):
        Shelf(only=("owner/a",)).get(REPO)
    assert not hub.requests


def test_a_broken_repository_is_refused_in_one_line(hub, saved):
    repo = hub.add(REPO, saved)
    repo.commit({"config.json": b"{"})
    with pytest.raises(gr.Error, match=f"{REPO} could not be loaded. config.json cannot be used."):
        load(Shelf(), REPO, "en", lambda *args, **kwargs: None)


def test_what_is_in_the_cache_is_not_announced_as_a_download(hub, saved):
    repo = hub.add(REPO, saved)
    resnet_hub.from_pretrained(REPO)
    assert announced(Shelf(added=(REPO,))) is None
    assert announced(Shelf()) == pytest.approx(1.1e6, abs=1e5)  # what a visitor names is not read from it
    repo.commit({"README.md": b"# another commit"})
    assert announced(Shelf(added=(REPO,))) == pytest.approx(1.1e6, abs=1e5)


@pytest.mark.parametrize(
    ("overrides", "said"), [({"num_classes": 0}, "has no classes"), ({"in_chans": 4}, "takes 4 channels")]
)
def test_a_network_that_cannot_label_images_is_refused_in_one_line(hub, tmp_path, capsys, overrides, said):
    tiny(**overrides).save_pretrained(tmp_path / "net")
    hub.add(REPO, tmp_path / "net")
    with pytest.raises(gr.Error, match=said):
        load(Shelf(), REPO, "en", lambda *args, **kwargs: None)
    photo = str(ROOT / "resnet_hub" / "examples" / "cat.jpg")
    assert predict.main([photo, "--model", str(tmp_path / "net")]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("size", "shown"), [((1, 4096), (1, 256)), ((4096, 8), (256, 1)), ((32, 32), (256, 256))]
)
def test_the_grad_cam_image_has_one_size_for_every_input_size(size, shown):
    assert overlay(Image.new("RGB", size), np.ones((2, 2), np.float32)).size == shown


# Cards


def test_a_card_of_unclosed_comments_does_not_hold_the_page():
    started = time.monotonic()
    shown = card_html("# Title\n" + "<!--" * 50_000, "en")
    assert "Title" in shown and "<!--" not in shown
    assert time.monotonic() - started < 20, "a quadratic search takes minutes"


def test_the_card_is_that_of_the_loaded_commit(hub, saved):
    repo = hub.add(REPO, saved)
    shelf = Shelf()
    shelf.get(REPO)
    repo.commit({"README.md": b"# changed since"})
    shown = shown_card(shelf, REPO, "en")
    assert "resnet20_cifar" in shown and "changed since" not in shown
    assert "<table" in shown and "generated" not in shown and "library_name" not in shown


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_missing_card_is_explained(hub, saved, language):
    repo = hub.add(REPO, saved)
    shelf = Shelf()
    assert say(language, "card_gone", model=REPO) in shown_card(shelf, REPO, language)
    del repo.commits[repo.refs["main"]]["README.md"]
    shelf.get(REPO)
    assert say(language, "card_missing", model=REPO) in shown_card(shelf, REPO, language)
    hub.faults = [lambda method, path, answer: type(answer)(503)]
    with pytest.raises(CheckpointError):
        shelf.card(REPO)
    assert say(language, "hub_unreachable", model=REPO) in shown_card(shelf, REPO, language)


def test_the_card_of_a_model_that_ships_needs_no_answer_of_it_first():
    shown = shown_card(Shelf(), "resnet20_cifar10", "en")
    assert "The network" in shown and say("en", "card_gone", model="resnet20_cifar10") not in shown


class Tags(HTMLParser):
    """Every tag and attribute of some HTML."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


HARM = [
    "![x](https://example.com/x.png)",
    "![x][r]\n\n[r]: https://example.com/x.png",
    "<img src=https://example.com/x.png onerror=alert(1)>",
    "<script>alert(1)</script>",
    "<iframe src='https://example.com'></iframe>",
    "```\n<img src=x>\n~~~\n```\n<img src=https://example.com/x.png>",
    "<style>@import 'https://example.com/x.css'</style>",
    "<!-- > --><img src=https://example.com/x.png>",
    "[x](javascript:alert(1))",
    '[x](https://example.com "\\"><img src=y>")',
    "<svg/onload=alert(1)>",
    "![<img src=z>](x)",
    "<!-- never closed <img src=https://example.com/x.png>",
    "---\nx: 1\n",
]


@pytest.mark.parametrize("harm", HARM)
def test_a_stranger_s_card_brings_no_html_script_or_image(harm):
    seen = Tags(card_html(f"---\na: 1\n---\n# Title\n\n{harm}\n")).seen
    allowed = {"div", "h1", "h2", "p", "em", "strong", "a", "code", "pre", "ul", "li", "hr", "table"}
    assert ("h1", {}) in seen and {tag for tag, _ in seen} <= allowed
    for _, attributes in seen:
        assert attributes.keys() <= {"class", "href", "title", "tabindex"}
        assert not attributes.get("href", "").startswith("javascript")


def test_an_image_is_shown_as_its_description():
    assert "[image: Loss by epoch]" in card_html("![Loss by epoch](curves.png)")
