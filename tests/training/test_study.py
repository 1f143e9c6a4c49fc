"""The promises of studies and measurements: tables agree with runs, an interrupted study resumes, int8 and
fp32 are compared on the same images. Oracles: the runs' own files, and ONNX Runtime beside torch."""

from __future__ import annotations

import json
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.training import image_folders, noise_image
from PIL import Image

from resnet_hub import create_model, from_pretrained
from resnet_hub.geometry import totals, trace
from training import bench, cifar, gpu, quantize, scale, study
from training.data import load_data
from training.engine import Trainer
from training.study import STUDIES, Study

FEW = "--recipe plain --batch-size 8 --held-out 4 --precision fp32 --device cpu"


@pytest.fixture(scope="module")
def greys(tmp_path_factory) -> Path:
    """train/ and test/ of two classes: dark and light noise."""
    classes = {"dark": noise_image(0, 130), "light": noise_image(120, 250)}
    return image_folders(tmp_path_factory.mktemp("greys"), {"train": 12, "test": 6}, classes)


@pytest.fixture
def tiny(monkeypatch):
    arms = {"one": "resnet20_cifar --input 16", "the other": "plain20_cifar --input 16 --lr 0.02"}
    monkeypatch.setitem(STUDIES, "tiny", Study(question="Which?", arms=arms, common=FEW, budget=(16, 2)))


def run_study(data: Path, place: Path, *more: str) -> int:
    where = ["--runs", str(place / "runs"), "--results", str(place / "results")]
    return study.main(["tiny", "--data", str(data), "--seeds", "2", *where, *more])


def test_table_agrees_with_the_runs(greys, tmp_path, tiny):
    assert run_study(greys, tmp_path) == 0
    document = json.loads((tmp_path / "results" / "tiny.json").read_text())
    text = (tmp_path / "results" / "tiny.md").read_text()
    for row, arm in zip(document["rows"], ("one", "the-other"), strict=True):
        runs = [
            json.loads((tmp_path / "runs" / "tiny" / f"{arm}-{i}" / "run.json").read_text()) for i in (0, 1)
        ]
        tested = [run["results"]["top1"] for run in runs]
        assert row["test_acc_by_seed"] == tested and row["test_acc"] == pytest.approx(np.mean(tested))
        assert f"{np.mean(tested):.2%}" in text
        assert all((run["train_images"], run["epochs_run"]) == (16, 2) for run in runs)
        assert [run["seed"] for run in runs] == [0, 1]
        accuracies = [
            np.array([line["val_acc"] for line in history]) for history in document["histories"][row["arm"]]
        ]
        near = [int(np.argmax(each >= each.max() - 0.01)) + 1 for each in accuracies]
        assert row["epochs_to_converge"] == np.mean(near)
    assert document["evidence"]["command"].startswith("python -m training.study tiny --data")
    assert document["evidence"]["seeds"] == 2 and document["evidence"]["test_images"] == 12
    with Image.open(tmp_path / "results" / "tiny.png") as image:
        assert image.format == "PNG"


def test_interrupted_study_resumes_without_repeating_finished_runs(greys, tmp_path, tiny, monkeypatch):
    fit, runs = Trainer.fit, []

    def fit_once(trainer, held_out, run):
        runs.append(run.name)
        if len(runs) == 2:
            raise KeyboardInterrupt
        fit(trainer, held_out, run)

    monkeypatch.setattr(Trainer, "fit", fit_once)
    assert run_study(greys, tmp_path) == 2
    assert not (tmp_path / "results").exists()
    assert run_study(greys, tmp_path) == 0
    assert runs == ["one-0", "the-other-0", "the-other-0", "one-1", "the-other-1"]


def test_other_flags_go_to_every_arm(greys, tmp_path, tiny):
    assert run_study(greys, tmp_path, "--epochs", "1", "--seeds", "1") == 0
    facts = json.loads((tmp_path / "runs" / "tiny" / "the-other-0" / "run.json").read_text())
    assert facts["epochs_run"] == 1


def test_outliers_for_a_study_without_any_are_refused(greys, tmp_path, tiny, capsys, monkeypatch):
    monkeypatch.setattr(cifar, "main", lambda arguments: pytest.fail("a run was begun"))
    assert run_study(greys, tmp_path, "--outliers", str(greys)) == 2
    assert "--outliers has no effect on this study" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--held-out", "0"], ["--held-out=0"]])
def test_a_study_without_held_out_images_is_refused_before_its_first_run(
    greys, tmp_path, tiny, capsys, monkeypatch, words
):
    monkeypatch.setattr(cifar, "main", lambda arguments: pytest.fail("a run was begun"))
    assert run_study(greys, tmp_path, *words) == 2
    assert "--held-out 0: a study compares 'one' on held-out images" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--seed", "5"], ["--seed=5"], ["--see", "5"], ["--out", "x"], ["--labels", "t.csv"]]
)
def test_flags_that_a_study_sets_itself_are_refused_before_its_first_run(
    greys, tmp_path, tiny, capsys, monkeypatch, words
):
    """Each --seed would give one run several times, as several seeds."""
    monkeypatch.setattr(cifar, "main", lambda arguments: pytest.fail("a run was begun"))
    assert run_study(greys, tmp_path, "--seeds", "3", *words) == 2
    assert f"{words[0][:5]}" in capsys.readouterr().err.partition(" is not for a study")[0]


def test_finished_runs_of_another_budget_are_refused(greys, tmp_path, tiny, capsys):
    assert run_study(greys, tmp_path, "--epochs", "1", "--seeds", "1") == 0
    capsys.readouterr()
    assert run_study(greys, tmp_path, "--seeds", "1") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "one-0 was made by" in said and "--epochs 1" in said and "move it away" in said


@pytest.mark.parametrize("name", STUDIES)
def test_every_arm_of_every_study_is_a_command_the_trainer_takes(name):
    one = STUDIES[name]
    trainers = {"cifar": cifar.parse_arguments, "transfer": study.transfer.parse_arguments}
    given = type("Options", (), {"data": "DIR", "outliers": "OTHERS", "more": []})
    for arm in one.arms:
        words = study.arm_arguments(one, arm, given, seed=1)
        options = trainers[one.trainer]([*words, "--out", "RUN"])
        epochs = 1 if "equal cost" in arm else one.budget[1]
        assert options.seed == 1 and options.epochs == epochs


def test_the_stem_s_arm_at_equal_cost_has_the_imagenet_stem_s_multiply_adds():
    one, given = STUDIES["stem"], type("Options", (), {"data": "DIR", "outliers": None, "more": []})

    def cost(arm):
        options = cifar.parse_arguments([*study.arm_arguments(one, arm, given, seed=0), "--out", "RUN"])
        macs = totals(trace(options.model, 32)).macs
        return macs * options.train_images * options.epochs

    assert cost("CIFAR stem at equal cost") == pytest.approx(cost("ImageNet stem"), rel=0.05)
    assert cost("CIFAR stem") == pytest.approx(15 * cost("ImageNet stem"), rel=0.05)


# int8


@pytest.fixture(scope="module")
def trained(greys, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "trained"
    words = f"resnet20_cifar --data {greys} --out {run} --epochs 3 --input 16 {FEW}"
    assert cifar.main(words.split()) == 0
    return run


def test_int8_version_is_smaller_and_measured_beside_fp32(trained, greys, tmp_path, capsys):
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install -e .[export]")
    words = [str(trained), "--data", str(greys), "--out", str(tmp_path), "--rounds", "2", "--json"]
    assert quantize.main(words) == 0
    results = json.loads(capsys.readouterr().out)
    facts = json.loads((trained / "run.json").read_text())
    assert results["torch fp32"]["top1"] == pytest.approx(facts["results"]["top1"])
    assert results["ONNX fp32"]["agrees_with_fp32"] == 1
    assert results["ONNX int8"]["bytes"] < 0.5 * results["ONNX fp32"]["bytes"]
    assert results["ONNX int8"]["agrees_with_fp32"] >= 0.75
    model = from_pretrained(trained)
    data = load_data(str(greys), "test", model.preprocess)
    ((pixels, _),) = quantize.batches_of(data, model, 12)
    ours = quantize.torch_runner(model)(pixels)
    assert quantize.onnx_runner(tmp_path / "fp32.onnx")(pixels) == pytest.approx(ours, rel=1e-3, abs=1e-4)
    assert not np.array_equal(quantize.onnx_runner(tmp_path / "int8.onnx")(pixels), ours)


def test_int8_version_of_a_network_with_global_max_pooling(trained, greys, tmp_path, capsys):
    pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install -e .[export]")
    labels = from_pretrained(trained).labels
    net = create_model("resnet8_cifar", num_classes=len(labels), input_size=16)
    net.labels = labels
    net.save_pretrained(tmp_path)
    assert quantize.main([str(tmp_path), "--data", str(greys), "--rounds", "2", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["ONNX fp32"]["agrees_with_fp32"] == 1 and results["ONNX int8"]["bytes"] < 4e6


def test_int8_of_other_classes_is_refused(trained, tmp_path, capsys):
    for part in ("train", "test"):
        (tmp_path / part / "cat").mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(tmp_path / part / "cat" / "1.png")
    assert quantize.main([str(trained), "--data", str(tmp_path)]) == 2
    assert "classes that the model does not have: 'cat'" in capsys.readouterr().err.splitlines()[-1]


# Speed


@pytest.mark.parametrize("variant", ["usual", "ours", "ideal"])
def test_benchmark_variants_take_steps_of_the_same_size(variant, monkeypatch):
    monkeypatch.setattr(bench, "IMAGES", 512)
    steps = bench.VARIANTS[variant]("resnet20_cifar", torch.device("cpu"), False)
    assert next(steps) == bench.BATCH


def test_benchmark_ends_with_the_images():
    assert bench.run_steps(iter([128] * 8), 60, torch.device("cpu")).images > 0


def test_benchmark_counts_processor_seconds_and_what_others_took(monkeypatch, capsys):
    """In 10 s this process had 8 of the 20 s of two processors, others 12: it would take 4 s alone."""
    monkeypatch.setattr(bench, "available_cores", lambda: 2)
    before, after = bench.Times(0, 1, 100), bench.Times(10, 9, 120)
    assert bench.speed_between(400, before, after, cores=2) == (100, 0.6)
    assert bench.speed_between(400, before, after, cores=0) == (40, 0.6)  # a GPU's steps by the clock
    assert bench.speed_between(400, before, after, cores=2, processes=2).others == pytest.approx(0.2)
    bench.say_when_busy("resnet20_cifar", 0.6)
    bench.say_when_busy("resnet20_cifar", 0.02)
    said = capsys.readouterr().err
    assert said == "resnet20_cifar: the machine was not quiet, other programs took 60% of it\n"


def test_benchmark_counts_other_programs_on_its_own_processors_alone(monkeypatch):
    """user nice system idle iowait irq softirq steal, of which all but idle, iowait and steal are use."""
    lines = ["cpu  999 9 9 9 9 9 9 9 0 0", "cpu0 100 20 30 5 5 4 6 7 0 0", "cpu1 900 0 0 0 0 0 0 0 0 0"]
    lines += ["cpu10 40 0 0 0 0 0 0 0 0 0", "intr 12 3"]
    monkeypatch.setattr(Path, "read_text", lambda self: "\n".join(lines))
    monkeypatch.setattr(bench.os, "sched_getaffinity", lambda process: {0, 10}, raising=False)
    monkeypatch.setattr(bench.os, "sysconf", lambda name: 100)
    assert bench.machine_seconds() == (160 + 40) / 100


def test_benchmark_sees_the_processor_time_of_its_workers():
    from multiprocessing import Event, Process

    stop = Event()
    worker = Process(target=_busy, args=(stop,), daemon=True)
    worker.start()
    try:
        before = bench.Times.now()
        while bench.processor_seconds(worker) < 0.3:
            time.sleep(0.02)
        assert bench.Times.now().own - before.own >= 0.2
    finally:
        stop.set()
        worker.join()


def _busy(stop) -> None:
    while not stop.is_set():
        pass


def test_what_a_gpu_reaches_is_measured_on_a_cpu_too(capsys):
    words = ["resnet20_cifar", "--device", "cpu", "--images", "32", "--batch", "16", "--seconds", "0.01"]
    assert gpu.main(words) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])["resnet20_cifar"]
    assert found["same bits with --deterministic"] is True and found["Muon ms a step"] > 0
    assert {"training float32", "ideal float32", "evaluation float32"} <= found.keys()
    assert not torch.are_deterministic_algorithms_enabled()


def test_benchmark_of_an_unknown_network_is_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        bench.main(["resnet21_cifar"])
    assert ended.value.code == 2
    assert "unknown network 'resnet21_cifar'; did you mean" in capsys.readouterr().err.splitlines()[-1]


def test_scale_is_arithmetic_on_the_measured_rates():
    text = scale.report(
        "resnet18", speed=100.0, decoding=50.0, device_name="x", precision="fp32", command="y"
    )
    images = 1_281_167 * 90
    assert f"{images / 100 / 86_400:,.0f} days" in text
    assert f"| 1 | {images / 86_400:,.0f} |" in text
    parameters = sum(p.numel() for p in create_model("resnet18").parameters())
    assert f"{4 * parameters / 1e6:,.0f} MB of gradients" in text


@pytest.mark.parametrize("name", sorted(study.STUDIES))
def test_each_record_has_the_arms_of_its_study(name):
    record = json.loads((study.RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    assert [row["arm"] for row in record["rows"]] == list(study.STUDIES[name].arms)


def test_each_record_says_what_the_findings_say():
    findings = tomllib.loads(study.FINDINGS.read_text(encoding="utf-8"))
    assert findings
    for name, found in findings.items():
        text = (study.RESULTS / f"{name}.md").read_text(encoding="utf-8")
        assert found["shows"]["en"] in text and found["cannot"]["en"] in text, name
