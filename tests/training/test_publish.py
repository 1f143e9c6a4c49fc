"""The promises of `python -m training.publish`: only a whole and truthful run goes up, in one commit, and
what is on the Hub afterwards is that run. The Hub is on loopback, the run a small network on small images.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
import torch
import yaml
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from helpers import ROOT
from helpers.cards import FACTS, leaves
from helpers.checkpoints import lively
from helpers.images import image
from helpers.loopback_hub import TOKEN, error, flip_a_byte, on, once, with_body
from helpers.serving import served
from huggingface_hub import ModelCard

from resnet_hub import create_model, from_pretrained
from resnet_hub.hub.card import render_card
from resnet_hub.hub.push import BESIDE, RECORD
from resnet_hub.models.calibration import Calibration
from resnet_hub.onnx_file import OnnxFile
from resnet_hub.web import runtime
from training import evaluate, publish
from training.data import load_data, whole_image
from training.plots import confusion, curves

REPO = "somebody/three-things"
LABELS = ("ant", "bee", "cat|dog")
PUBLISHED = {
    "config.json", "model.safetensors", "README.md",
    "run.json", "history.jsonl", "curves.png", "confusion.png",
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "three"
    for i, label in enumerate(LABELS):
        (folder / "test" / label).mkdir(parents=True)
        for j in range(8):
            image(100 * i + j, (32, 32)).save(folder / "test" / label / f"{j}.png")
    return folder


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory) -> Path:
    """A run directory as a trainer leaves it, its figures measured on `data`."""
    run = tmp_path_factory.mktemp("runs") / "three_things"
    model = lively(create_model("resnet20_cifar", num_classes=3))
    model.labels = LABELS
    model.calibration = Calibration(1.25, 0.5, 0.0)
    results = evaluate.measure(model, load_data(str(data), "test", whole_image((32, 32))))
    model.calibration = evaluate.measured_calibration(model, results)
    facts = copy.deepcopy(FACTS) | {
        "name": run.name,
        "data": str(data),
        "command": f"python -m training.cifar resnet20_cifar --data {data} --out {run}",
        "results": results,
    }
    model.save_pretrained(run, card=render_card(model, facts, load_from=run.name))
    (run / "run.json").write_text(json.dumps(facts))
    line = {"epoch": 1, "train_loss": 1.0, "train_acc": 0.5, "val_loss": 1.0, "val_acc": 0.5}
    (run / "history.jsonl").write_text(json.dumps(line) + "\n")
    curves([line]).savefig(run / "curves.png", dpi=40)
    confusion(results["confusion"], LABELS).savefig(run / "confusion.png", dpi=40)
    (run / "last.ckpt").write_bytes(b"a pickle")
    return run


@pytest.fixture
def run(finished, tmp_path) -> Path:
    return shutil.copytree(finished, tmp_path / "three_things")


@pytest.fixture
def logged_in(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return hub


def command(run: Path, *flags: str) -> int:
    return publish.main([str(run), "--repo-id", REPO, *flags])


def last_error(capsys) -> str:
    (*_, line) = capsys.readouterr().err.splitlines()
    assert line.startswith("training.publish: ")
    return line


def test_a_run_is_published_in_one_commit_and_comes_back(logged_in, run, data, capsys):
    assert command(run, "--data", str(data)) == 0
    files = logged_in.files(REPO)
    assert files.keys() - {".gitattributes"} == PUBLISHED
    assert len(logged_in.repo(REPO).commits) == 2  # the Hub's own first one, and this
    assert files["model.safetensors"] == (run / "model.safetensors").read_bytes()
    out = capsys.readouterr().out
    commit = logged_in.repo(REPO).refs["main"]
    assert f"{logged_in.endpoint}/{REPO} at {commit}" in out
    for line in ("resnet_hub.from_pretrained", "timm.create_model", "AutoModelForImageClassification"):
        assert f'{line}("' in out or f"{line}.from_pretrained" in out
    assert from_pretrained(REPO).labels == LABELS


def test_the_published_card_parses_has_no_empty_field_and_evaluation_agrees_with_it(
    logged_in, run, data, capsys
):
    command(run)
    card = ModelCard.load(REPO)
    assert all(leaf not in (None, "", "None") for leaf in leaves(card.data.to_dict()))
    assert "![" in card.text and f'"{REPO}"' in card.text
    assert evaluate.main([REPO, "--data", str(data), "--device", "cpu"]) == 0
    altered = re.sub(r"\| ant \| [^|]+ \|", "| ant | 1.0 % |", card.content, count=1)
    logged_in.repo(REPO).commit({"README.md": altered.encode()})
    assert evaluate.main([REPO, "--data", str(data), "--device", "cpu"]) == 1
    assert "the card says class ant two ways" in capsys.readouterr().err
    assert evaluate.main([REPO, "--data", str(data), "--device", "cpu", "--json"]) == 1
    document = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)  # NaN is no JSON
    assert document["differs_from_card"]["class ant"][0] is None
    altered = re.sub(r'"per_class": \[[^,\]]+', '"per_class": [0.01', altered, count=1)
    logged_in.repo(REPO).commit({"README.md": altered.encode()})
    assert evaluate.main([REPO, "--data", str(data), "--device", "cpu"]) == 1
    assert "the card says class ant 0.01" in capsys.readouterr().err


def test_publishing_again_sends_nothing_and_says_so(logged_in, run, capsys):
    command(run)
    before = dict(logged_in.repo(REPO).refs)
    capsys.readouterr()
    assert command(run) == 0
    assert logged_in.repo(REPO).refs == before and "there already" in capsys.readouterr().out


def test_a_section_written_on_the_hub_survives_and_figures_follow_the_run(logged_in, run):
    command(run)
    card = logged_in.files(REPO)["README.md"].decode()
    card = card.replace("## Use", "## Thanks\n\nTo Anna.\n\n## Use")
    logged_in.repo(REPO).commit({"README.md": card.replace("seed 17", "seed 18").encode()})
    assert command(run) == 0
    card = logged_in.files(REPO)["README.md"].decode()
    assert "To Anna." in card and "seed 17" in card and "seed 18" not in card


@pytest.mark.parametrize("name", sorted(PUBLISHED - {"confusion.png"}))
def test_a_run_that_is_not_whole_is_refused(logged_in, run, name, capsys):
    (run / name).unlink()
    assert command(run) == 2
    assert name in last_error(capsys) and not logged_in.repos


def test_a_card_that_says_something_else_than_the_run_is_refused(logged_in, run, capsys):
    card = (run / "README.md").read_text()
    changed = card.replace('"temperature": 1.25', '"temperature": 1.5')
    (run / "README.md").write_text(changed.replace("| temperature | 1.25 |", "| temperature | 1.5 |"))
    assert command(run) == 2
    assert "temperature 1.5 and 1.25" in last_error(capsys) and not logged_in.repos


def test_figures_that_the_weights_do_not_reach_are_refused(logged_in, run, data, capsys):
    model = lively(create_model("resnet20_cifar", num_classes=3), seed=5)
    model.labels, model.calibration = LABELS, from_pretrained(run).calibration
    card = (run / "README.md").read_text()
    model.save_pretrained(run, card=card)
    assert command(run, "--data", str(data)) == 2
    assert "what was measured on" in last_error(capsys) and not logged_in.repos


@pytest.mark.parametrize("half", [False, True])
def test_a_dry_run_writes_a_loadable_folder_and_sends_nothing(logged_in, run, half, tmp_path, capsys):
    from_pretrained(run).save_pretrained(run, card=(run / "README.md").read_text(), half=half)
    assert command(run, "--dry-run", str(tmp_path / "look")) == 0
    assert {path.name for path in (tmp_path / "look").iterdir()} == PUBLISHED
    assert from_pretrained(tmp_path / "look").labels == LABELS
    weights = [(folder / "model.safetensors").read_bytes() for folder in (run, tmp_path / "look")]
    assert weights[0] == weights[1] and (len(weights[0]) < 2.5 * 272_474) == half
    assert ("stored as float16" in (tmp_path / "look" / "README.md").read_text()) == half
    assert not logged_in.requests and "nothing uploaded" in capsys.readouterr().out
    assert command(run, "--dry-run", str(tmp_path / "look")) == 2
    assert "not empty" in last_error(capsys)


def test_no_folder_of_this_machine_is_published(logged_in, run, data):
    command(run)
    for name, content in logged_in.files(REPO).items():
        assert str(data).encode() not in content and str(run.parent).encode() not in content, name


@pytest.mark.parametrize("name", ["history.jsonl", "confusion.png"])
def test_a_run_that_holds_a_token_is_refused(logged_in, run, capsys, name):
    """Also in the text fields of an image, for instance."""
    with (run / name).open("ab") as file:
        file.write(b"\n" + json.dumps({"note": TOKEN}).encode() + b"\n")
    assert command(run) == 2
    line = last_error(capsys)
    assert name in line and TOKEN not in line and not logged_in.repos


def test_a_run_named_from_inside_is_published_under_its_name(run, monkeypatch, capsys):
    monkeypatch.chdir(run)
    assert publish.main([".", "--repo-id", "me/run", "--dry-run"]) == 0
    assert (run.with_name(f"{run.name}-upload") / "README.md").is_file()
    assert not [each for each in run.iterdir() if "upload" in each.name]


def test_the_token_is_in_no_output_and_no_file(logged_in, run, capfd, tmp_path):
    command(run, "--private")
    logged_in.faults = [lambda method, path, answer: type(answer)(403, b"{}")]
    command(run, "--private")
    assert TOKEN not in "".join(capfd.readouterr())
    for content in logged_in.files(REPO).values():
        assert TOKEN.encode() not in content
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes()


def test_a_private_model_is_private_and_verified_all_the_same(logged_in, run):
    assert command(run, "--private") == 0
    assert logged_in.repo(REPO).private


def test_an_upload_that_arrives_damaged_is_noticed(logged_in, run, capsys):
    logged_in.faults = [on("model.safetensors", with_body(flip_a_byte))]
    assert command(run) == 2
    assert "sha256" in last_error(capsys)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_while_it_uploads_the_branch_is_as_it_was_and_a_retry_completes(logged_in, run, how):
    reached, ended, real = Event(), Event(), logged_in.answer

    def holds_back_the_commit(method, path, *rest):
        if "/commit/" not in path:
            return real(method, path, *rest)
        reached.set()
        ended.wait(60)
        return error(500)

    logged_in.answer = holds_back_the_commit
    env = os.environ | {"HF_ENDPOINT": logged_in.endpoint, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"}
    line = [sys.executable, "-m", "training.publish", str(run), "--repo-id", REPO]
    process = subprocess.Popen(
        line,
        cwd=ROOT,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # What a shell runs in the background ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert reached.wait(120)
    process.send_signal(how)
    said = process.communicate(timeout=60)[1].decode()
    ended.set()
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    assert "Traceback" not in said and TOKEN not in said
    assert logged_in.files(REPO).keys() == {".gitattributes"}
    logged_in.answer = real
    assert command(run) == 0 and logged_in.files(REPO).keys() > PUBLISHED


def test_a_lost_answer_is_no_second_commit(logged_in, run):
    logged_in.faults = [once(lambda method, path, answer: "lose" if "/commit/" in path else None)]
    assert command(run) == 0
    assert len(logged_in.repo(REPO).commits) == 2


def test_without_a_login_it_says_how(hub, run, capsys):
    assert command(run) == 2
    assert "hf auth login" in last_error(capsys)


def test_labels_of_no_data_are_refused(run, capsys):
    with pytest.raises(SystemExit):
        publish.main([str(run), "--repo-id", "owner/name", "--labels", "labels.csv"])
    assert "give --data too" in capsys.readouterr().err


@pytest.mark.parametrize("repo_id", ["name", "a/b/c", "a b/c", "https://hf.co/a/b"])
def test_a_bad_repository_id_is_refused(run, repo_id):
    with pytest.raises(SystemExit) as end:
        publish.main([str(run), "--repo-id", repo_id])
    assert end.value.code == 2


def test_a_loaded_model_pushed_back_keeps_its_results(logged_in, run):
    command(run)
    from_pretrained(REPO).push_to_hub(REPO)
    assert "## Results" in logged_in.files(REPO)["README.md"].decode()
    from_pretrained(run).push_to_hub("somebody/else")
    assert "## Results" not in logged_in.files("somebody/else")["README.md"].decode()


def test_what_an_earlier_run_recorded_does_not_outlive_its_weights(logged_in, run):
    assert command(run) == 0
    assert set(logged_in.files(REPO)) >= {RECORD, *BESIDE}
    logged_in.repo(REPO).commit({"notes.txt": b"a person's"})
    torch.manual_seed(1)  # other weights than the run's
    lively(create_model("resnet20_cifar", num_classes=3)).push_to_hub(REPO)
    files = logged_in.files(REPO)
    assert (
        not {RECORD, *BESIDE} & set(files)
        and files["notes.txt"]
        and "## Results" not in files["README.md"].decode()
    )


def test_other_answers_of_the_same_weights_keep_no_figure(logged_in, run):
    assert command(run) == 0
    model = from_pretrained(REPO)
    model.calibration = Calibration(temperature=3.21)
    model.push_to_hub(REPO)
    card = logged_in.files(REPO)["README.md"].decode()
    assert "## Results" not in card and "| temperature |" not in card


def test_other_preprocessing_of_the_same_weights_keeps_no_figure(logged_in, run):
    assert command(run) == 0
    model = from_pretrained(REPO)
    model.preprocess = replace(model.preprocess, crop_pct=0.5)
    model.push_to_hub(REPO)
    card = logged_in.files(REPO)["README.md"].decode()
    assert "## Results" not in card


def test_the_space_s_files_start_and_serve_the_model(logged_in, run, tmp_path):
    assert command(run) == 0
    assert command(run, "--space", "--dry-run", str(tmp_path / "look")) == 0
    start = [sys.executable, str(tmp_path / "look-space" / "space.py")]
    (tmp_path / "space_home").mkdir()
    env = {"HF_ENDPOINT": logged_in.endpoint, "HF_HUB_DISABLE_XET": "1"}
    with served(start, tmp_path / "space_home", **env) as address:
        client = Client(address, verbose=False)
        image(0).save(tmp_path / "photo.png")
        answer = client.predict(handle_file(str(tmp_path / "photo.png")), REPO, api_name="/classify")
        assert {c["label"] for c in answer[0]["confidences"]} == set(LABELS)
        with pytest.raises(AppError, match="not offered here"):
            client.predict(handle_file(str(tmp_path / "photo.png")), "somebody/else", api_name="/classify")


def test_a_space_serves_the_model_and_holds_all_it_needs(logged_in, run, capsys):
    assert command(run, "--space") == 0
    files = logged_in.files(REPO, "spaces")
    front = yaml.safe_load(files["README.md"].decode().split("---\n")[1])
    assert (front["sdk"], front["app_file"], front["models"]) == ("gradio", "space.py", [REPO])
    assert REPO.encode() in files["space.py"] and b"--models-only-from" in files["space.py"]
    needed = (
        "app.py",
        "resnet_hub/ui/shared/style.css",
        "resnet_hub/hub/card_template.md",
    )
    for name in (*needed, "training/results/stem.json"):
        assert files[name] == (ROOT / name).read_bytes()
    assert not [name for name in files if "__pycache__" in name or name.startswith("tests")]
    assert not [name for name in files if name.startswith("training/") and name.endswith(".py")]
    assert "/spaces/" in capsys.readouterr().out
    assert front["python_version"] == "3.12.12"
    asked = files["requirements.txt"].decode().splitlines()
    assert "torch>=2.8,<2.14" in asked and "torchvision>=0.23,<0.29" in asked
    assert {line for line in asked if not line.startswith("torch")} < {
        *(ROOT / "requirements.txt").read_text().splitlines()
    }
    assert (logged_in.wishes[-1]["sdk"], logged_in.wishes[-1]["hardware"]) == ("gradio", "zero-a10g")


def test_a_space_that_must_be_paid_for_is_one_sentence_that_offers_the_free_kind(logged_in, run, capsys):
    logged_in.paid_sdks = {"gradio"}
    assert command(run, "--space", "gradio", "--space-hardware", "cpu-basic") == 2
    error = last_error(capsys)
    assert "402" in error and "--space static" in error
    assert ("spaces", REPO) not in logged_in.repos


def test_the_hardware_is_what_was_asked_for_and_a_static_space_takes_none(logged_in, run, capsys):
    assert command(run, "--space", "gradio", "--space-hardware", "cpu-upgrade") == 0
    assert logged_in.wishes[-1]["hardware"] == "cpu-upgrade"
    with pytest.raises(SystemExit):
        command(run, "--space", "static", "--space-hardware", "cpu-upgrade")


@pytest.mark.npm
def test_a_static_space_and_the_onnx_files_are_published_beside_the_model(logged_in, run, capsys):
    if not runtime.is_cached():
        pytest.skip("onnxruntime-web is not in the cache; `python -m resnet_hub.web` downloads it once")
    logged_in.paid_sdks = {"gradio"}
    assert command(run, "--space", "static", "--onnx") == 0
    page, files = logged_in.files(REPO, "spaces"), logged_in.files(f"{REPO}-ONNX")
    front = yaml.safe_load(page["README.md"].decode().split("---\n")[1])
    assert (front["sdk"], front["app_file"], front["models"]) == ("static", "index.html", [REPO])
    assert {"index.html", "page.js", "model.onnx", "ort/ort-wasm-simd-threaded.wasm"} <= page.keys()
    assert REPO in json.loads(page["model.json"])["link"]
    assert "hardware" not in logged_in.wishes[-1] and logged_in.wishes[-1]["sdk"] == "static"
    card = yaml.safe_load(files["README.md"].decode().split("---\n")[1])
    assert (card["base_model"], card["base_model_relation"]) == (REPO, "quantized")
    assert {"config.json", "preprocessor_config.json", "onnx/model.onnx", "photo.onnx"} <= files.keys()


def test_onnx_files_state_the_licence_that_a_person_chose_and_keep_their_lines(logged_in, run, tmp_path):
    assert command(run, "--onnx") == 0
    card = logged_in.files(REPO)["README.md"].replace(b"license: mit", b"license: cc-by-nc-4.0")
    card = card.replace(b"## Use\n", b"## Use\n\nOnly in spring.\n")
    logged_in.repo(REPO).commit({"README.md": card})
    beside = logged_in.files(f"{REPO}-ONNX")["README.md"]
    logged_in.repo(f"{REPO}-ONNX").commit({"README.md": beside + b"\nA person's line.\n"})
    assert command(run, "--onnx") == 0
    files = logged_in.files(f"{REPO}-ONNX")
    assert logged_in.files(REPO)["README.md"].count(b"Only in spring.") == 1
    text = files["README.md"].decode()
    assert "license_name: cc-by-nc-4.0" in text and text.endswith("\nA person's line.\n")
    (tmp_path / "photo.onnx").write_bytes(files["photo.onnx"])
    assert OnnxFile(tmp_path / "photo.onnx").facts["licence"] == "cc-by-nc-4.0"


ON_ZERO_GPU = """
import sys, types
marked = []
sys.modules["spaces"] = types.SimpleNamespace(GPU=lambda function: marked.append(function) or function)
import app
from resnet_hub.ui.shelf import Shelf
app.build_app(Shelf())
print(len(marked), "torch" in sys.modules)
"""


def test_on_zerogpu_functions_ask_for_the_gpu_at_start_up_before_torch_is_imported():
    env = {**os.environ, "SPACES_ZERO_GPU": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", ON_ZERO_GPU],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    count, torch_is_there = ran.stdout.split()
    assert int(count) >= 1 and torch_is_there == "False", ran.stderr
