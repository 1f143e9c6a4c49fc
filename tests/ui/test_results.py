"""The Results tab's handlers: studies with their evidence, and predictions on a visitor's own images."""

from __future__ import annotations

import base64
import contextlib
import csv
import io
import json
import re
import threading
import tracemalloc
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import pytest
import torch
from helpers.images import image
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_hub import create_model, from_pretrained
from resnet_hub.errors import Refusal
from resnet_hub.preprocess import ImageError
from resnet_hub.ui.lab import page as lab
from resnet_hub.ui.limits import Limits
from resnet_hub.ui.recorder import Recorder
from resnet_hub.ui.results import page, recorded, tab
from resnet_hub.ui.results.grid import MOST_BYTES, Grid, Predicted, from_zip, known_as, predict
from resnet_hub.ui.results.tab import items_of
from resnet_hub.ui.shared.errors import refusal
from resnet_hub.ui.shared.page import Page
from resnet_hub.ui.shared.text import LANGUAGES, say
from resnet_hub.ui.shelf import Shelf

# studies


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder of results with one study, written by the trainer's own `record`."""
    from training import study

    def run(seed: int) -> dict:
        history = [{"epoch": e, "train_acc": 0.5 + 0.1 * e, "val_acc": 0.4 + 0.1 * e} for e in (1, 2, 3)]
        for line in history:
            line |= {"train_loss": 1.0, "val_loss": 1.1, "seconds": 10.0}
        return {
            "results": {"top1": 0.61 + seed / 100, "top1_flip_tta": 0.63, "images": 1000},
            "history": history, "total_params": 269_722, "val_acc": 0.7, "seconds": 30.0, "epochs_run": 3,
            "pflops": 0.01, "best_epoch": 3, "data": "cifar10 <jpeg>", "train_images": 5000,
            "recipe": {"epochs": 3}, "hardware": "two cores", "versions": {"torch": "2.15"},
        }  # fmt: skip

    facts = {arm: [run(0), run(2)] for arm in ("p = 0.0", "p = 0.5")}
    study.record("dropout", facts, "python -m training.study dropout --data cifar10", tmp_path)
    monkeypatch.setattr(recorded, "RESULTS", tmp_path)
    return tmp_path


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_recorded_study_is_shown_with_its_evidence_and_downloads(results, language):
    shown = page.studies(language)
    for words in (
        "training.study dropout",
        "two cores",
        "cifar10 &lt;jpeg&gt;",
        "<td>62.0 (61.0–63.0)</td>",
        "<td>1.100</td>",
        "269,722",
    ):
        assert words in shown

    whole = re.search(r'download="dropout.json" href="data:application/json;base64,([^"]+)"', shown)[1]
    assert json.loads(base64.b64decode(whole)) == json.loads((results / "dropout.json").read_text())
    text = base64.b64decode(re.search(r'href="data:text/csv;base64,([^"]+)"', shown)[1]).decode()
    lines = [*csv.DictReader(io.StringIO(text))]
    assert [*lines[0]][:2] == ["arm", "parameters"]
    assert [json.loads(line["test_acc_by_seed"]) for line in lines] == [[0.61, 0.63]] * 2
    assert page.title(language, "degradation") in shown  # named as not run
    assert "269,722" in lab.opened(language, "dropout", {})[2]
    assert "+18.0" in lab.follow(language, "exercises", {"number": "9", "answer": True})[0]


def test_a_study_of_many_arms_draws_each_line_in_a_style_of_its_own(results):
    document = json.loads((results / "dropout.json").read_text())
    (row, *_), (history, *_) = document["rows"], document["histories"].values()
    names = [f"feature, {n} images" for n in range(12)]
    document["rows"] = [row | {"arm": name} for name in names]
    document["histories"] = dict.fromkeys(names, history)
    (results / "dropout.json").write_text(json.dumps(document))
    shown = page.study("en", "dropout")
    styles = re.findall(r'h20" (stroke="[^"]+") stroke-width="2.5" (stroke-dasharray="[^"]*")', shown)
    assert len(styles) == 24 and len(set(styles)) == 12


def test_one_study_is_shown_with_its_finding_below_an_index_of_all(results):
    document = json.loads((results / "dropout.json").read_text())
    rows = [row | {"test_acc": acc, "test_acc_by_seed": [acc - 0.01, acc + 0.01]}
            for row, acc in zip(document["rows"], (0.7, 0.6), strict=True)]  # fmt: skip
    (results / "stem.json").write_text(json.dumps(document | {"study": "stem", "rows": rows}))
    shown = page.studies("en", "stem")
    assert shown.count("data-study=") == 2 and shown.count("<pre>") == 1
    said = (
        "“p = 0.0” reached 70.0 % on test images, “p = 0.5” 60.0 %: 10.0 points apart, more than the spread"
    ).replace(" %", "\N{NO-BREAK SPACE}%")
    assert said in shown and "so the difference may be chance" in shown  # of stem; of dropout, in the index
    assert page.studies("en", "no such study") == page.studies("en", "stem")


@pytest.mark.parametrize("change", [{"rows": []}, {"histories": []}, {"evidence": "x"}, {"rows": [{}]}])
def test_a_malformed_study_is_reported(results, change):
    document = json.loads((results / "dropout.json").read_text())
    (results / "dropout.json").write_text(json.dumps(document | change))
    assert "dropout.json cannot be read" in page.studies("en")


def test_missing_and_broken_results_are_reported(results, monkeypatch):
    (results / "stem.json").write_text('{"study": "stem"')
    (results / "speed.json").write_text('{"another": "command"}')
    shown = page.studies("en")
    assert "stem.json cannot be read" in shown and "speed" not in shown
    monkeypatch.setattr(recorded, "RESULTS", results / "nowhere")
    assert "No study has been recorded" in page.studies("en")
    assert page.inset("en", "dropout") == ""


# prediction grids


def zipped(path, files: dict[str, bytes]):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    image(seed).save(buffer, "png")
    return buffer.getvalue()


def test_a_grid_shows_the_model_s_predictions_and_marks_wrong_ones(tmp_path):
    model = from_pretrained("resnet20_cifar10")
    guesses = [model.predict(image(seed))[0][0][0] for seed in range(4)]
    files = {f"set/{guess}/{seed}.png": png(seed) for seed, guess in enumerate(guesses)}
    wrong = next(name for name in model.labels if name != guesses[0])
    files |= {f"set/{wrong}/odd.png": png(0), "set/zebra/1.png": png(1), "set/notes/read.txt": b"no image"}
    files |= {"__MACOSX/set/cat/._1.png": b"", "set/.DS_Store": b""}
    grid = predict(model, "resnet20_cifar10", from_zip(zipped(tmp_path / "a.zip", files)))
    assert grid.right == 4 and len(grid.predictions) == 6
    assert [each.right for each in grid.predictions] == [False, *[True] * 4, False]
    assert next(each.name for each in grid.scored) == "odd.png" and not grid.predictions[-1].scored
    assert grid.unknown == ("zebra",) and len(grid.skipped) == 1
    for language in LANGUAGES:
        shown = page.grid(language, grid)
        assert (
            shown.count('<figure class="wrong"') == 1
            and "zebra" in shown
            and "80.0\N{NO-BREAK SPACE}%" in shown
        )
        text = base64.b64decode(re.search(r'predictions.csv" href="data:text/csv;base64,([^"]+)"', shown)[1])
        lines = [*csv.DictReader(io.StringIO(text.decode()))]
        assert [line["right"] for line in lines] == ["no", *["yes"] * 4, "not scored"]
        counts = re.findall(r'data-true="([^"]+)" data-label="([^"]+)" aria-pressed="false">(\d+)<', shown)
        assert sum(int(count) for _, _, count in counts) == 6 and ("zebra", guesses[1], "1") in counts


def test_a_class_of_few_images_counts_as_much_as_one_of_many():
    kept = [("cat", True), ("cat", True), ("cat", True), ("cat", False), ("dog", False), ("zebra", None)]
    made = [
        Predicted(true, "cat", 0.5, bool(right), image(0), "1.png", right is not None) for true, right in kept
    ]
    made[0] = replace(made[0], certainty="unfamiliar")
    grid = Grid("net", tuple(made), ("zebra",), (), "1a2b3c4d5e6f70")
    shown = page.grid("en", grid)
    assert shown.count("50 % · unfamiliar<") == 1 and "net, commit 1a2b3c4d5e6f<" in shown
    assert grid.right / len(grid.scored) == 0.6 and grid.balanced_accuracy == (0.75 + 0) / 2
    assert all("37.5\N{NO-BREAK SPACE}%" in page.grid(language, grid) for language in LANGUAGES)


def test_images_of_classes_that_the_model_lacks_are_not_scored(tmp_path):
    model = from_pretrained("resnet20_cifar10")
    grid = predict(model, "x", from_zip(zipped(tmp_path / "a.zip", {"ants/1.png": png(0)})))
    shown = page.grid("en", grid)
    assert not grid.scored and "right (" not in shown and "Not scored" in shown and "1.png" in shown


BAD_ZIPS = {
    "many": ({f"cat/{i}.png": b"x" for i in range(201)}, "grid_too_many"),
    "bomb": ({"cat/1.png": bytes(MOST_BYTES + 1)}, "grid_too_large"),
}


@pytest.mark.parametrize("name", BAD_ZIPS)
def test_a_hostile_zip_is_refused_before_anything_is_unpacked(tmp_path, monkeypatch, name):
    files, key = BAD_ZIPS[name]
    path = zipped(tmp_path / "a.zip", files)
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("a file was unpacked"))
    with pytest.raises(Refusal) as error:
        from_zip(path)
    assert error.value.code == key


@pytest.mark.parametrize("second", ["quick", "refused"])
def test_of_two_runs_the_last_that_is_answered_is_shown_whichever_ends_last(monkeypatch, second):
    begun, go_on = threading.Event(), threading.Event()

    def load(shelf, name, *_):
        if name == "slow":
            begun.set()
            assert go_on.wait(60)
        return name

    def items_of(event):
        if event._data["model"] == "refused":
            raise refusal("grid_nothing")
        return []

    monkeypatch.setattr(tab, "load", load)
    monkeypatch.setattr(tab, "items_of", items_of)
    monkeypatch.setattr(tab, "predict", lambda model, name, items: Grid(name, (), (), ()))
    with gr.Blocks() as demo:
        given = Page(Shelf(), gr.Radio(["en", "ja"], value="en"), Recorder())
        with gr.Tab() as results_tab:
            tab.build(given, results_tab)
    (run,) = [each for each in demo.fns.values() if each.name == "on_run"]

    def ask(name: str) -> tuple:
        visitor = SimpleNamespace(session_hash="visitor")
        return run.fn(gr.EventData(None, {"model": name}), "en", visitor, progress=None)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, "slow")
        assert begun.wait(60)
        if second == "quick":
            assert ask("quick")[1].model == "quick"
        else:
            with pytest.raises(gr.Error, match=re.escape(say("en", "grid_nothing"))):
                ask("refused")
        go_on.set()
        if second == "quick":
            assert first.result() == (gr.skip(), gr.skip())
        else:
            assert first.result()[1].model == "slow"
    assert run.trigger_mode == "multiple"  # the page drops none of them


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_form_names_the_limit_of_an_upload(language):
    assert "7 MB" in page.grid_form(Shelf(limits=Limits(upload_bytes=7_000_000)), language)


@settings(max_examples=150)
@given(
    st.dictionaries(st.text(max_size=12), st.binary(max_size=60), max_size=4),
    st.dictionaries(st.integers(0, 599), st.integers(0, 255), max_size=4),
    st.integers(0, 100),
)
def test_a_damaged_zip_is_read_or_refused(tmp_path_factory, files, damage, cut):
    path = tmp_path_factory.getbasetemp() / "damaged.zip"
    with contextlib.suppress(UnicodeError):  # a name that no zip can have
        zipped(path, {f"cat/{name}": data for name, data in files.items()})
    data = bytearray(path.read_bytes())
    for place, value in damage.items():
        data[place % len(data)] = value
    path.write_bytes(data[: len(data) - cut] if cut < 20 else data)
    try:
        for item in from_zip(path):
            assert isinstance(item.source, Refusal) or len(item.source) <= MOST_BYTES
    except Refusal as refused:
        assert refused.code.startswith("grid_") and "\n" not in str(refused)


def test_no_more_is_unpacked_than_a_zip_s_header_declares(tmp_path):
    path = zipped(tmp_path / "a.zip", {"cat/1.png": bytes(50_000_000)})
    raw = path.read_bytes().replace((50_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path.write_bytes(raw)
    tracemalloc.start()
    (item,) = from_zip(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert item.source.code == "grid_damaged" and peak < 5_000_000


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_file_packed_by_an_unbounded_method_is_skipped(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("cat/1.png", bytes(1000))
    (item,) = from_zip(tmp_path / "a.zip")
    assert item.source.code == "grid_damaged"


@pytest.mark.parametrize("name", ["../../cat/1.png", "/etc/cat/1.png", "a\\..\\cat\\1.png", "C:/cat/1.png"])
def test_one_bad_name_does_not_refuse_the_others(tmp_path, name):
    model = from_pretrained("resnet20_cifar10")
    path = zipped(tmp_path / "a.zip", {name: png(0), "cat/2.png": png(1)})
    grid = predict(model, "x", from_zip(path))
    assert [each.true for each in grid.predictions] == ["cat"]
    assert [error.code for error in grid.skipped] == ["grid_unsafe"]
    assert "points outside its folder" in page.grid("en", grid)


def test_one_damaged_file_does_not_refuse_the_others(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("cat/1.png", b"damaged soon")
        archive.writestr("cat/2.png", png(1))
    data = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(data.replace(b"damaged soon", b"damaged now!"))
    bad, good = from_zip(tmp_path / "a.zip")
    assert bad.source.code == "grid_damaged" and good.source == png(1)


def as_windows_writes(path, names: list[bytes]):
    """A zip whose names are these bytes, without the mark of UTF-8; zipfile itself cannot write one."""
    stand_ins = [b"%%%03d" % i + b"x" * (len(name) - 4) for i, name in enumerate(names)]
    with zipfile.ZipFile(path, "w") as archive:
        for stand_in in stand_ins:
            archive.writestr(stand_in.decode(), png(0))
    data = path.read_bytes()
    for stand_in, name in zip(stand_ins, names, strict=True):
        data = data.replace(stand_in, name)
    path.write_bytes(data)
    return path


def test_names_that_windows_and_macos_write_are_read(tmp_path):
    """Backslashes between folders; Shift-JIS, whose second byte may be one; UTF-8 without its mark; 437."""
    names = [
        b"set\\cat\\1.png", "動物\\表示\\1.png".encode("cp932"), "ソナー/1.png".encode("cp932"),
        "ねこ/1.png".encode(), "café/1.png".encode("cp437"),
    ]  # fmt: skip
    items = from_zip(as_windows_writes(tmp_path / "a.zip", names))
    assert [item.true for item in items] == ["cat", "表示", "ソナー", "ねこ", "café"]
    assert all(item.source == png(0) for item in items)


def test_an_image_counts_to_its_class_folder_however_deep_it_lies(tmp_path):
    names = ["cat/2023/1.png", "cat/2024/2.png", "dog/3.png", "cat/Thumbs.db", ".trashed/cat/4.png"]
    items = from_zip(zipped(tmp_path / "a.zip", {name: png(0) for name in names}))
    assert [item.true for item in items] == ["cat", "cat", "dog"]


def test_a_folder_that_a_label_names_is_the_class(tmp_path):
    model = from_pretrained("resnet20_cifar10")
    names = ["photos/cat/left/1.png", "photos/dog/right/2.png"]
    grid = predict(model, "x", from_zip(zipped(tmp_path / "a.zip", {name: png(0) for name in names})))
    assert {each.true for each in grid.predictions} == {"cat", "dog"} and grid.unknown == ()


@pytest.mark.parametrize(("label", "folder"), [("が", "か\u3099"), ("か\u3099", "が")])
def test_a_class_folder_that_macos_wrote_is_the_label_of_that_name(tmp_path, label, folder):
    """macOS takes が apart into か and its mark; so may the labels of a model that was trained there."""
    model = create_model("resnet20_cifar", num_classes=2)
    model.labels = (label, "x")
    with torch.no_grad():
        model.fc.bias.copy_(torch.tensor([100.0, 0.0]))
    grid = predict(model, "x", from_zip(zipped(tmp_path / "a.zip", {f"{folder}/1.png": png(0)})))
    assert (grid.unknown, grid.right, len(grid.scored)) == ((), 1, 1)


def test_a_zip_with_a_password_is_called_that(tmp_path):
    path = zipped(tmp_path / "a.zip", {"cat/1.png": png(0)})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(Refusal) as error:
        from_zip(path)
    assert error.value.code == "grid_password"


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\x03\x04" + bytes(50)])
def test_a_file_that_is_not_a_zip_is_refused(tmp_path, data):
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(Refusal) as error:
        from_zip(tmp_path / "a.zip")
    assert error.value.code == "grid_bad_zip"


@pytest.mark.parametrize(
    "data", [None, {}, {"zip": 1}, {"zip": "/etc/passwd"}, {"zip": "\0"}, {"files": "x"}, {"count": "many"},
             {"files": [{"name": "a/1.png", "path": "/etc/passwd"}]}, {"files": [1, None]}, {"count": 10**9}],
)  # fmt: skip
def test_malformed_uploads_are_refused(data):
    with pytest.raises((Refusal, ImageError)):
        predict(None, "x", items_of(gr.EventData(None, data)))


def test_skipped_files_are_counted_with_each_reason_once(tmp_path):
    whole = png(0)
    header = whole[12:16] + (60_000).to_bytes(4, "big") * 2 + whole[24:29]
    huge = whole[:12] + header + zlib.crc32(header).to_bytes(4, "big") + whole[33:]
    files = {"cat/1.png": b"no", "cat/2.png": b"no", "dog/big.png": huge, "dog/3.png": b""}
    model = from_pretrained("resnet20_cifar10")
    grid = predict(model, "x", from_zip(zipped(tmp_path / "a.zip", files)))
    shown = page.grid("en", grid)
    assert "Files skipped: 4" in shown and "million pixels" in shown
    assert shown.count("not an image") == 1


def test_an_archive_without_class_folders_is_refused(tmp_path):
    model = from_pretrained("resnet20_cifar10")
    with pytest.raises(Refusal) as error:
        predict(model, "x", from_zip(zipped(tmp_path / "a.zip", {"1.png": png(0)})))
    assert error.value.code == "grid_no_classes"


def test_a_folder_s_name_matches_a_label_or_its_synonym():
    assert known_as("tabby, tabby cat", "Tabby_Cat") and known_as("cat", "cat")
    assert not known_as("cat", "caterpillar")


def test_a_folder_named_exactly_like_a_label_means_no_other(tmp_path):
    model = from_pretrained("resnet20_cifar10")
    guess = model.predict(image(0))[0][0][0]
    other = next(i for i, label in enumerate(model.labels) if label != guess)
    model.labels = tuple(guess.title() if i == other else label for i, label in enumerate(model.labels))
    files = {f"{name}/{i}.png": png(0) for i, name in enumerate((guess, guess.title(), guess.upper()))}
    grid = predict(model, "x", from_zip(zipped(tmp_path / "a.zip", files)))
    right = {each.true: each.right for each in grid.predictions}
    assert right == {guess: True, guess.title(): False, guess.upper(): True}


def test_entries_that_are_hidden_count_too_and_before_they_are_listed(tmp_path, monkeypatch):
    files = {f".{i}": b"" for i in range(1100)} | {"cat/1.png": png(0)}
    path = zipped(tmp_path / "a.zip", files)
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("its directory was read"))
    with pytest.raises(Refusal) as error:
        from_zip(path)
    assert error.value.code == "grid_too_many_entries"
