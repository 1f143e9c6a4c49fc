"""The promises of `resnet_hub.files` and of the commands that write: whole or not at all, the user's umask,
one line for a full disk."""

from __future__ import annotations

import errno
import os
import resource
import stat
import subprocess
import sys
import time

import pytest
from helpers import ROOT

from resnet_hub import create_model
from resnet_hub.errors import Refusal
from resnet_hub.files import whole_folder, write_atomically, write_together


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def half(target) -> None:
    target.write(b"ne")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_file_is_replaced_whole_or_not_at_all(tmp_path):
    file = tmp_path / "state"
    file.write_text("old")
    with pytest.raises(Refusal, match=r"No space left on device.*Make room"):
        write_atomically(file, half)
    assert names(tmp_path) == ["state"] and file.read_text() == "old"
    write_atomically(file, lambda target: target.write(b"new"))
    assert names(tmp_path) == ["state"] and file.read_text() == "new"


def test_of_several_files_none_is_replaced_when_the_last_does_not_fit(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(Refusal, match="b cannot be written"):
        write_together({tmp_path / "a": lambda file: file.write(b"new"), tmp_path / "b": half})
    assert names(tmp_path) == ["a"] and (tmp_path / "a").read_text() == "old"
    with pytest.raises(Refusal):
        write_atomically(tmp_path / "folder" / "a", half)
    assert names(tmp_path) == ["a"]  # nor an empty folder


def test_a_file_system_that_became_read_only_is_one_line(tmp_path, monkeypatch):
    def read_only(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for method in ("open", "unlink"):
        monkeypatch.setattr(f"pathlib.Path.{method}", read_only)
    with pytest.raises(Refusal, match=r"Read-only file system.*what was saved before is kept"):
        write_atomically(tmp_path / "state", lambda file: file.write(b"new"))


def test_a_folder_takes_its_place_whole_or_not_at_all(tmp_path):
    (tmp_path / "out").mkdir()

    def fill_half() -> None:
        with whole_folder(tmp_path / "out") as folder:
            (folder / "a").write_text("1")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(Refusal, match="No space left"):
        fill_half()
    assert names(tmp_path) == ["out"] and not names(tmp_path / "out")
    with whole_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("1")
    assert names(tmp_path) == ["out"] and names(tmp_path / "out") == ["a"]


def test_a_folder_that_is_not_free_is_refused_before_the_work(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    (tmp_path / "file").touch()
    for name, said in (("full", "is not empty; name another folder"), ("file", "is a file; name a folder")):
        with pytest.raises(Refusal, match=said), whole_folder(tmp_path / name):
            pytest.fail("the work was begun")
    assert names(tmp_path) == ["file", "full"] and names(tmp_path / "full") == ["a"]


def test_what_a_crash_left_beside_a_folder_goes_after_days_and_another_process_s_work_stays(tmp_path):
    old, fresh = (tmp_path / f"out.{digit * 32}.tmp" for digit in "0f")
    for left in (old, fresh):
        left.mkdir()
        (left / "half").touch()
    os.utime(old, (time.time() - 3 * 86_400,) * 2)
    with whole_folder(tmp_path / "out"):
        pass
    assert names(tmp_path) == [fresh.name, "out"] or names(tmp_path) == ["out", fresh.name]


def test_a_checkpoint_is_written_with_the_users_umask(tmp_path):
    before = os.umask(0o027)
    try:
        create_model("lenet5").save_pretrained(tmp_path / "net")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "net").iterdir()}
    assert modes == dict.fromkeys(("config.json", "model.safetensors", "README.md"), 0o640)


@pytest.mark.parametrize("out", ["x", "x.pth", "x.safetensors"])
def test_convert_on_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, out):
    """A limit on file sizes stands in for the disk."""
    layout = "timm" if "." in out else "resnet_hub"
    model = "resnet18" if layout == "timm" else "resnet20_cifar10"
    if layout == "timm":
        create_model(model).save_pretrained(tmp_path / "from")
        model = str(tmp_path / "from")
    done = subprocess.run(
        [sys.executable, "-m", "resnet_hub.convert", model, str(tmp_path / "to" / out), "--to", layout],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000)),
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "cannot be written (" in done.stderr and "Make room" in done.stderr
    assert not (tmp_path / "to").exists() or not names(tmp_path / "to")
