"""The one rule for what is an image, what is no data, and which class a file belongs to. The oracle of the
suffixes is PIL's own table."""

from __future__ import annotations

import pytest
from PIL import Image

from resnet_hub.errors import listed
from resnet_hub.folders import SUFFIXES_OF, classes_of, image_files, is_no_data, part_named


def test_suffixes_are_those_of_pil_s_readers():
    Image.init()
    theirs = {
        name: {s for s, f in Image.registered_extensions().items() if f == name} for name in SUFFIXES_OF
    }
    theirs["JPEG"].add(".mpo")
    assert {name: set(ours) for name, ours in SUFFIXES_OF.items()} == theirs


@pytest.mark.parametrize(
    "name",
    [".ipynb_checkpoints/a.jpg", "cat/.trashed-17-a.jpg", "__MACOSX/cat/a.jpg", "cat/Thumbs.db", "cat/a.jpg~",
     "@eaDir/a.jpg", ".hidden"],
)  # fmt: skip
def test_what_systems_leave_is_no_data(name):
    assert is_no_data(name) and not is_no_data("cat/a.jpg")


@pytest.mark.parametrize(
    ("name", "part"),
    [("Training", "train"), ("VALID", "val"), ("dev", "val"), ("Validation", "val"), ("testing", "test"),
     ("cat", None)],
)  # fmt: skip
def test_parts_are_known_by_their_usual_names(name, part):
    assert part_named(name) == part


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["cat/2023/1", "cat/2024/2"], ["cat", "cat"]),
        (["cat/batch1/1", "cat/batch2/2"], ["cat", "cat"]),
        (["cat/morning/1", "cat/evening/2", "dog/morning/3"], ["cat", "cat", "dog"]),
        (["pets/cat/1", "pets/dog/2", "pets/dog/more/3"], ["cat", "dog", "dog"]),
        (["p/train/cat/1", "p/test/cat/2", "p/test/dog/3"], ["cat", "cat", "dog"]),
        (["1", "cat/2"], [None, "cat"]),
    ],
)
def test_an_image_belongs_to_its_class_folder_however_deep_it_lies(names, classes):
    assert classes_of(names) == classes


def test_a_known_class_is_found_wherever_it_stands():
    names = ["x/cat/a/1", "x/dog/b/2", "x/dog/c/3"]
    assert classes_of(names, lambda folder: folder in ("cat", "dog")) == ["cat", "dog", "dog"]


def test_linked_folders_are_followed_and_never_round_in_circles(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a.JPG").touch()
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "link").symlink_to(tmp_path / "far")
    (tmp_path / "cat" / "up").symlink_to(tmp_path)
    found = [file.relative_to(tmp_path).as_posix() for file in image_files(tmp_path / "cat")]
    assert found == ["cat/link/a.JPG", "cat/up/far/a.JPG"]


def test_links_to_nothing_and_to_themselves_are_left_out(tmp_path):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    assert image_files(tmp_path) == [tmp_path / "a.jpg"]


def test_long_lists_are_cut_with_a_count():
    assert listed(range(3)) == "0, 1, 2"
    assert listed(range(3000), 2) == "0, 1 and 2,998 more"
