"""The layout of transformers.js, loaded by the real package under node."""

import json
import shutil
import subprocess

import pytest
from helpers import ROOT
from helpers.images import image
from huggingface_hub import ModelCard

from resnet_hub import from_pretrained
from resnet_hub.errors import Refusal
from resnet_hub.interop import convert, transformers_js
from resnet_hub.models.calibration import Calibration
from resnet_hub.preprocess import Preprocess

MODULES = ROOT / "tests" / "node" / "node_modules"
INSTALL = "npm install --prefix tests/node --no-save --ignore-scripts @huggingface/transformers@4.3.1"
SCRIPT = """
import { pipeline, env } from "@huggingface/transformers";
const [folder, name, ...photos] = process.argv.slice(2);
env.allowRemoteModels = false;
env.localModelPath = folder;
const answers = {};
for (const dtype of ["fp32", "q8"]) {
  const classify = await pipeline("image-classification", name, { dtype });
  answers[dtype] = [];
  for (const photo of photos) answers[dtype].push((await classify(photo, { top_k: 1 }))[0]);
}
console.log(JSON.stringify(answers));
"""


@pytest.mark.node
def test_the_real_package_answers_as_python_does(tmp_path, one_thread):
    if not (MODULES / "@huggingface" / "transformers").is_dir() or not shutil.which("node"):
        pytest.skip(f"needs node and transformers.js: {INSTALL}")
    model = from_pretrained("resnet20_cifar10")
    convert.save(model, tmp_path / "net", "transformers-js")
    photos = []
    for seed in range(20):
        photos.append(path := tmp_path / f"{seed}.png")
        image(seed, (32 + 3 * (seed % 4), 32)).save(path)
    script = MODULES.parent / "answer.mjs"  # beside the package, where node looks for it
    script.write_text(SCRIPT)
    command = ["node", str(script), f"{tmp_path}/", "net", *map(str, photos)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, ran.stderr
    answers = json.loads(ran.stdout.splitlines()[-1])
    ours = model.predict(photos, top_k=2)
    for dtype in ("fp32", "q8"):
        for (first, second), theirs in zip(ours, answers[dtype], strict=True):
            is_close = first[1] - second[1] < 0.05  # its resizing and int8 may turn a close call
            assert theirs["label"] == first[0] or is_close, (dtype, first, theirs)


def test_what_its_processor_cannot_do_is_refused_and_nothing_written(tmp_path):
    model = from_pretrained("resnet20_cifar10")
    model.preprocess = Preprocess(input_size=(3, 32, 32), crop_mode="squash")
    with pytest.raises(Refusal, match="crop_mode=squash"):
        convert.save(model, tmp_path / "net", "transformers-js")
    assert not (tmp_path / "net").exists()


def test_a_licence_s_name_does_not_break_the_card(tmp_path, monkeypatch):
    name = "CC: BY-NC, see LICENSE"
    monkeypatch.setattr(transformers_js, "licence_of", lambda model: name)
    convert.save(from_pretrained("resnet20_cifar10"), tmp_path / "net", "transformers-js")
    fields = ModelCard.load(tmp_path / "net" / "README.md").data.to_dict()
    assert (fields["license"], fields["license_name"]) == ("other", name)
    assert fields["pipeline_tag"] == "image-classification" and fields["library_name"] == "transformers.js"


def test_a_network_that_answers_each_class_by_itself_is_refused(tmp_path):
    model = from_pretrained("resnet20_cifar10")
    model.calibration = Calibration(class_thresholds=(0.5,) * 10)
    with pytest.raises(Refusal, match="each class by itself"):
        convert.save(model, tmp_path / "net", "transformers-js")
    assert not (tmp_path / "net").exists()
