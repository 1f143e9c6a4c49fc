"""The promises of loading from and pushing to the Hub: one commit, checked files, plain words, no token.

The real huggingface_hub client talks to a Hub on loopback. Oracle: the directory that was put there.
"""

from __future__ import annotations

import gzip
import json
import pickle
import time
import traceback
import tracemalloc
import zlib
from functools import partial
from pathlib import Path

import brotli
import pytest
import torch
from helpers.checkpoints import Bomb, images, logits, refusal, tiny
from helpers.loopback_hub import (
    TOKEN,
    Answer,
    error,
    flip_a_byte,
    on,
    once,
    point_client_to,
    slow,
    status,
    with_body,
)
from huggingface_hub import HfApi, ModelCard, constants, get_session, hf_hub_download, set_client_factory
from huggingface_hub.utils import _http
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from resnet_hub import create_model, from_pretrained
from resnet_hub.errors import Refusal
from resnet_hub.hub import fetch
from resnet_hub.hub.client import bounded
from resnet_hub.hub.fetch import CheckpointError, HubSlow, fetch_card, fetch_checkpoint, without_token

REPO = "somebody/small-net"
WEIGHTS = "model.safetensors"


@pytest.fixture
def saved(tmp_path) -> Path:
    tiny().save_pretrained(tmp_path / "net")
    return tmp_path / "net"


@pytest.fixture
def repo(hub, saved):
    return hub.add(REPO, saved)


def cached(tmp_path: Path) -> list[str]:
    """Names of the files that the Hub cache holds, whole or not."""
    return sorted({path.name for path in (tmp_path / "hub_cache").rglob("snapshots/*/*")})


def blobs(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "hub_cache").rglob("blobs/*") if path.is_file()]


def same_answers(one, other) -> bool:
    return torch.equal(logits(one, images(one)), logits(other, images(other)))


# Loading


@pytest.mark.parametrize("revision", [None, "main", "v1", "feature/x", "commit"])
def test_a_repository_loads_by_branch_tag_or_commit(hub, repo, saved, revision):
    commit = repo.refs["main"]
    repo.refs |= {"v1": commit, "feature/x": commit}
    model = from_pretrained(REPO, revision=commit if revision == "commit" else revision)
    assert (model.source, model.revision, model.training) == (REPO, commit, False)
    assert same_answers(model, from_pretrained(saved))


def test_an_older_commit_loads_after_the_branch_has_moved(hub, repo, saved, tmp_path):
    old = repo.refs["main"]
    tiny(num_classes=3).save_pretrained(tmp_path / "new")
    hub.add(REPO, tmp_path / "new")
    assert from_pretrained(REPO).config.num_classes == 3
    assert same_answers(from_pretrained(REPO, revision=old), from_pretrained(saved))


def test_config_and_weights_are_from_one_commit_although_the_branch_moves_between(hub, repo, tmp_path):
    tiny(num_classes=3).save_pretrained(tmp_path / "new")
    commit = repo.refs["main"]

    def moves(answer):
        hub.add(REPO, tmp_path / "new")

    hub.faults = [once(on("config.json", moves))]
    model = from_pretrained(REPO)
    assert (model.revision, model.config.num_classes) == (commit, 10)
    assert repo.refs["main"] != commit, "the branch did move"


def test_only_config_and_weights_are_downloaded(hub, repo, tmp_path):
    bomb = pickle.dumps(Bomb(tmp_path / "exploded"))
    repo.commit({"pytorch_model.bin": bomb, "modeling.py": b"raise SystemExit"})
    from_pretrained(REPO)
    assert set(hub.downloads()) == {"config.json", WEIGHTS}


def test_a_repository_of_pickles_is_refused_with_the_reason_before_any_download(hub, saved):
    files = {"config.json": (saved / "config.json").read_bytes(), "pytorch_model.bin": b"pickle"}
    hub.add(REPO, files)
    message = refusal(REPO)
    assert message.startswith(f"{REPO}: {WEIGHTS} is missing") and "can run code" in message
    assert not hub.downloads()


@pytest.mark.parametrize("file", ["config.json", WEIGHTS])
def test_a_repository_without_a_file_says_which(hub, repo, file):
    del hub.files(REPO)[file]
    assert refusal(REPO) == f"{REPO}: {file}: the repository does not hold this file"


def test_a_file_larger_than_any_checkpoint_is_refused_before_its_download(hub, repo, monkeypatch):
    from resnet_hub.hub import fetch

    monkeypatch.setitem(fetch.MOST_BYTES, WEIGHTS, 1000)
    message = refusal(REPO)
    assert message.startswith(f"{REPO}: {WEIGHTS} has ") and "1,000 is the most" in message
    assert not hub.downloads()


def test_a_download_moves_the_given_progress_bar_by_its_bytes(hub, repo):
    moved = {}

    class Bar(tqdm):
        def update(self, n=1):
            file = self.desc.rsplit("/", 1)[-1]
            moved[file] = moved.get(file, 0) + (n or 0)
            return super().update(n)

    from_pretrained(REPO, tqdm_class=Bar)
    assert moved[WEIGHTS] == len(hub.files(REPO)[WEIGHTS])


def test_the_size_is_known_before_the_download_and_one_request_resolves_the_commit(hub, repo, tmp_path):
    tiny(num_classes=3).save_pretrained(tmp_path / "new")
    files, commit, seen = hub.files(REPO), repo.refs["main"], []

    def before_download(size):
        seen.append((size, hub.downloads()))
        hub.add(REPO, tmp_path / "new")  # the branch moves between

    assert fetch_checkpoint(REPO, before_download=before_download).revision == commit != repo.refs["main"]
    assert seen == [(len(files["config.json"]) + len(files[WEIGHTS]), [])]
    assert [path for _, path in hub.requests if path.startswith("/api/")] == [f"/api/models/{REPO}"]


def test_a_download_can_be_refused_by_its_size(hub, repo):
    def refuse(size):
        raise OverflowError(size)

    with pytest.raises(OverflowError):
        fetch_checkpoint(REPO, before_download=refuse)
    assert not hub.downloads()


def test_the_card_is_read_from_the_commit_asked_for(hub, repo):
    old = repo.refs["main"]
    repo.commit({"README.md": b"# changed"})
    assert fetch_card(REPO) == "# changed" and "resnet20_cifar" in fetch_card(REPO, revision=old)
    del hub.files(REPO)["README.md"]
    assert fetch_card(REPO) is None


def test_branches_and_tags_made_by_the_client_are_loaded(hub):
    api = HfApi(token=TOKEN)
    tiny(num_classes=3).push_to_hub(REPO, token=TOKEN)
    api.create_tag(REPO, tag="v1")
    api.create_branch(REPO, branch="older")
    tiny(num_classes=5).push_to_hub(REPO, token=TOKEN)
    counts = {at: from_pretrained(REPO, revision=at).config.num_classes for at in ("main", "v1", "older")}
    assert counts == {"main": 5, "v1": 3, "older": 3}


# Private, gated, missing


def test_a_private_repository_loads_with_a_token_only(hub, saved):
    hub.add(REPO, saved, private=True)
    assert refusal(REPO) == f"{REPO}: config.json: " + (
        "no such repository on the Hub, or a private one and no valid token"
    )
    assert from_pretrained(REPO, token=TOKEN).source == REPO


def test_a_gated_repository_says_how_to_get_in(hub, saved):
    hub.add(REPO, saved, gated=True)
    assert "gated" in refusal(REPO) and "hf auth login" in refusal(REPO)
    assert from_pretrained(REPO, token=TOKEN).source == REPO


@pytest.mark.parametrize(
    ("repo_id", "revision", "cause"),
    [("somebody/else", None, "no such repository"), (REPO, "nowhere", "no such branch, tag or commit")],
)
def test_what_the_hub_does_not_have_is_said(repo, repo_id, revision, cause):
    message = refusal(repo_id, revision=revision)
    assert message.startswith(f"{repo_id}: ") and cause in message


# Without the network


@pytest.mark.parametrize("revision", [None, "v1", "commit"])
def test_what_was_downloaded_loads_without_the_network(hub, repo, revision):
    repo.refs["v1"] = commit = repo.refs["main"]
    revision = commit if revision == "commit" else revision
    from_pretrained(REPO, revision=revision)
    hub.requests.clear()
    model = from_pretrained(REPO, revision=revision, local_files_only=True)
    assert model.revision == commit and not hub.requests


@pytest.mark.parametrize("trouble", [429, 500, 503, "offline"])
def test_what_was_downloaded_still_loads_while_the_hub_is_down(hub, repo, trouble, monkeypatch, closed_port):
    from_pretrained(REPO)
    if trouble == "offline":
        point_client_to(f"http://127.0.0.1:{closed_port}", monkeypatch)
    else:
        hub.faults = [status(trouble)]
    assert from_pretrained(REPO).revision == repo.refs["main"]


def test_offline_is_said_within_seconds(hub, monkeypatch, closed_port):
    point_client_to(f"http://127.0.0.1:{closed_port}", monkeypatch)
    started = time.monotonic()
    message = refusal(REPO)
    assert message.startswith(f"{REPO}: ") and "could not be reached" in message
    assert time.monotonic() - started < 15  # huggingface_hub's own retries take 24 s


def test_not_in_the_cache_is_said(hub, repo):
    assert "not in the cache" in refusal(REPO, local_files_only=True) and not hub.requests


# Faults


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_hub_in_trouble_is_said_and_a_retry_works(hub, repo, code, tmp_path):
    hub.faults = [status(code)]
    started = time.monotonic()
    assert f"{REPO}: config.json: the Hub answered with status {code}" in refusal(REPO)
    assert time.monotonic() - started < 15 and not cached(tmp_path)
    hub.faults = []
    assert from_pretrained(REPO).source == REPO


def html(answer: Answer) -> Answer:
    return Answer(200, b"<!doctype html><title>Log in to the hotel</title>", {"Content-Type": "text/html"})


TAMPERED = {
    "portal": (html, "an HTML page came instead of the Hub's answer"),
    "cut": (with_body(lambda data: data[: len(data) // 2]), "cut short or not its own"),
    "other": (with_body(lambda data: b'{"ok": true}'), "cut short or not its own"),
    "list": (with_body(lambda data: b"[]"), "cut short or not its own"),
}


@pytest.mark.parametrize("kind", TAMPERED)
def test_what_answers_in_the_hubs_place_is_said_and_the_cache_is_used(hub, repo, kind):
    change, said = TAMPERED[kind]
    hub.faults = [lambda method, path, answer: change(answer)]
    message = refusal(REPO)
    assert message.startswith(f"{REPO}: config.json: ") and said in message
    hub.faults = []
    from_pretrained(REPO)
    hub.faults = [lambda method, path, answer: change(answer)]
    assert from_pretrained(REPO).revision == repo.refs["main"]


def too_many(seconds: int):
    return lambda method, path, answer: (
        Answer(429, b"", {"Retry-After": str(seconds)}) if path.startswith("/api/") else None
    )


@pytest.mark.parametrize(("fault", "seconds"), [(too_many(2), 2), (status(503), 0.7)])
def test_the_first_request_is_asked_again_after_the_time_the_hub_asks_for(
    hub, repo, monkeypatch, fault, seconds
):
    waits: list[float] = []
    monkeypatch.setattr(fetch, "RETRY_SECONDS", (0.7, 0.9))
    monkeypatch.setattr(fetch.time, "sleep", waits.append)
    # huggingface_hub asks a process's first question about its own features.
    of_models = lambda method, path, answer: (  # noqa: E731
        fault(method, path, answer) if path.startswith("/api/models/") else None
    )
    hub.faults = [once(of_models)]
    assert from_pretrained(REPO).source == REPO and seconds in waits
    waits.clear()
    hub.faults = [once(of_models)]
    tiny(num_classes=3).push_to_hub(REPO, token=TOKEN)
    assert seconds in waits and from_pretrained(REPO).config.num_classes == 3


def test_a_long_wait_that_the_hub_asks_for_is_said_at_once(hub, repo):
    hub.faults = [too_many(300)]
    started = time.monotonic()
    assert "too many requests; wait a minute and try again (it asks for 300 seconds)" in refusal(REPO)
    assert time.monotonic() - started < 5


def test_a_connection_dropped_midway_is_taken_up_again(hub, repo, saved):
    hub.faults = [once(on(WEIGHTS, lambda answer: "drop"))]
    assert same_answers(from_pretrained(REPO), from_pretrained(saved))


def test_a_connection_that_keeps_dropping_leaves_nothing_behind_and_a_retry_works(
    hub, repo, tmp_path, monkeypatch
):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # five retries, one second apart
    hub.faults = [on(WEIGHTS, lambda answer: "lose")]
    message = refusal(REPO)
    assert message.startswith(f"{REPO}: {WEIGHTS}: the Hub could not be reached")
    assert WEIGHTS not in cached(tmp_path) and not [*tmp_path.rglob("*.incomplete")]
    hub.faults = []
    assert from_pretrained(REPO).source == REPO


def test_a_slow_answer_is_waited_for(hub, repo):
    hub.faults = [on(WEIGHTS, slow(1.5))]
    assert from_pretrained(REPO).source == REPO


def test_an_answer_that_never_comes_is_given_up(hub, repo, monkeypatch):
    from resnet_hub.hub import fetch

    monkeypatch.setattr(fetch, "PATIENCE", 0.3)
    hub.faults = [lambda method, path, answer: slow(2)(answer)]
    assert f"{REPO}: config.json: the Hub could not be reached" in refusal(REPO)


def packed(kind: str, data: bytes):
    """An answer that unpacks to `data`, over and over to 200 MB."""
    whole = data + b" " * (200 << 20)
    fast = partial(brotli.compress, quality=1)
    squeeze = {"gzip": gzip.compress, "deflate": zlib.compress, "br": fast}[kind]
    return Answer(200, squeeze(whole), {"Content-Type": "application/json", "Content-Encoding": kind})


@pytest.mark.parametrize("kind", ["gzip", "deflate", "br"])
@pytest.mark.parametrize("where", ["/api/", "/resolve/"])
def test_an_answer_that_unpacks_to_a_bomb_is_refused_in_little_memory(hub, repo, kind, where, tmp_path):
    bomb = packed(kind, b"{}")
    hub.faults = [lambda method, path, answer: bomb if where in path and method == "GET" else None]
    tracemalloc.start()
    try:
        message = refusal(REPO)
        assert tracemalloc.get_traced_memory()[1] < 80 << 20
    finally:
        tracemalloc.stop()
    assert message.startswith(f"{REPO}: config.json: the answer ")
    assert not cached(tmp_path) and not [*tmp_path.rglob("*.incomplete")]
    hub.faults = []
    assert from_pretrained(REPO).source == REPO


def test_an_endless_answer_is_refused_after_the_bytes_that_were_published(hub, repo, tmp_path):
    more = lambda answer: Answer(200, answer.body + bytes(20 << 20), answer.headers)  # noqa: E731
    hub.faults = [on("config.json", more)]
    assert "config.json: the answer has more than 1,0" in refusal(REPO)
    assert not [*tmp_path.rglob("*.incomplete")]


def test_an_answer_packed_in_spite_of_the_request_is_read(hub, repo, saved):
    def pack(method: str, path: str, answer: Answer):
        if method == "GET" and answer.status == 200:
            return Answer(200, gzip.compress(answer.body), answer.headers | {"Content-Encoding": "gzip"})
        return None

    hub.faults = [pack]
    assert same_answers(from_pretrained(REPO), from_pretrained(saved))


def test_what_takes_longer_than_asked_is_given_up_and_called_slow(hub, repo, tmp_path):
    hub.faults = [lambda method, path, answer: time.sleep(0.7)]
    with pytest.raises(HubSlow, match=f"{REPO}: .*takes too long"), bounded(seconds=0.5):
        fetch_checkpoint(REPO)
    assert not [*tmp_path.rglob("*.incomplete")]
    hub.faults = []
    with bounded(seconds=60):
        fetch_checkpoint(REPO)


def test_a_storage_that_keeps_failing_ends_soon_and_leaves_nothing(hub, repo, saved, tmp_path, monkeypatch):
    """The real hf_xet client; its storage answers nothing but 503."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    token = {
        "X-Xet-Cas-Url": f"{hub.endpoint}/cas",
        "X-Xet-Access-Token": "x",
        "X-Xet-Token-Expiration": "9" * 10,
    }

    def xet(method: str, path: str, answer: Answer):
        if path.startswith("/xet-token"):
            return Answer(200, json.dumps(token).encode(), token)
        if path.endswith(WEIGHTS):
            route = {"X-Xet-Hash": "ab" * 32, "X-Xet-Refresh-Route": f"{hub.endpoint}/xet-token"}
            return Answer(answer.status, answer.body, answer.headers | route)
        return error(503) if path.startswith("/cas") else None

    hub.faults = [xet]
    message = refusal(REPO)
    assert message.startswith(f"{REPO}: {WEIGHTS}: ")
    assert 0 < len([path for _, path in hub.requests if path.startswith("/cas")]) <= 6
    assert not [*tmp_path.rglob("*.incomplete")] and WEIGHTS not in cached(tmp_path)
    hub.faults = []
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    assert same_answers(from_pretrained(REPO), from_pretrained(saved))


def test_answers_to_a_client_of_one_s_own_are_bounded_whenever_it_was_set(hub, repo):
    class Own(type(get_session())):
        """As packages that cache or trace requests make them."""

    more = lambda answer: Answer(200, answer.body + bytes(20 << 20), answer.headers)  # noqa: E731
    former = _http._GLOBAL_CLIENT_FACTORY
    set_client_factory(Own)
    try:
        hub.faults = [on("config.json", more)]
        assert "config.json: the answer has more than 1,0" in refusal(REPO)
        assert isinstance(get_session(), Own)
    finally:
        set_client_factory(former)


def test_other_downloads_of_this_process_are_not_bounded(hub, repo, saved):
    with bounded(1000, seconds=1e-9), pytest.raises((HubSlow, Refusal)):
        HfApi().repo_info(REPO)
    assert HfApi().repo_info(REPO).sha == repo.refs["main"]
    assert Path(hf_hub_download(REPO, WEIGHTS)).read_bytes() == (saved / WEIGHTS).read_bytes()


def header_of_garbage(data: bytes) -> bytes:
    return data[:8] + b"\xff" * 40 + data[48:]


def with_weights(change):
    def changed(data: bytes, folder: Path) -> bytes:
        (folder / "w").write_bytes(data)
        tensors = load_file(folder / "w")
        change(tensors)
        save_file(tensors, folder / "w", metadata={"format": "pt"})
        return (folder / "w").read_bytes()

    return changed


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (lambda data: data[:-1000], "wrong size"),
        (lambda data: data + b"more", "wrong size"),
        (flip_a_byte, "sha256"),
        (header_of_garbage, "sha256"),
    ],
    ids=["truncated", "too long", "one flipped byte", "garbage header"],
)
def test_a_damaged_download_is_refused_not_kept_and_a_retry_works(hub, repo, saved, damage, cause, tmp_path):
    hub.faults = [on(WEIGHTS, with_body(damage))]
    message = refusal(REPO)
    assert message.startswith(f"{REPO}: {WEIGHTS}: ") and cause in message and "try again" in message
    assert WEIGHTS not in cached(tmp_path) and len(blobs(tmp_path)) == 1  # config.json
    hub.faults = []
    assert same_answers(from_pretrained(REPO), from_pretrained(saved))


def test_a_damaged_config_is_refused_not_kept_and_a_retry_works(hub, repo, tmp_path):
    hub.faults = [on("config.json", with_body(lambda data: data.replace(b"cifar", b"CIFAR")))]
    assert f"{REPO}: config.json: the hash of the download is not" in refusal(REPO)
    assert not cached(tmp_path)
    hub.faults = []
    assert from_pretrained(REPO).source == REPO


def test_a_file_that_was_damaged_in_the_cache_is_noticed_and_a_retry_works(hub, repo, saved, tmp_path):
    from_pretrained(REPO)
    (weights,) = (tmp_path / "hub_cache").rglob(f"snapshots/*/{WEIGHTS}")
    weights.resolve().write_bytes(flip_a_byte(weights.read_bytes()))
    assert "sha256" in refusal(REPO)
    assert same_answers(from_pretrained(REPO), from_pretrained(saved))


PUBLISHED_BROKEN = {
    "garbage header": (WEIGHTS, lambda data, folder: header_of_garbage(data), ""),
    "cut": (WEIGHTS, lambda data, folder: data[:-1000], ""),
    "NaN": (
        WEIGHTS,
        with_weights(lambda t: t["layer2.0.conv1.weight"].view(-1)[5:6].fill_(float("nan"))),
        "layer2.0.conv1.weight holds NaN or infinity",
    ),
    "other keys": (WEIGHTS, with_weights(lambda t: t.pop("fc.bias")), "missing fc.bias"),
    "no JSON": ("config.json", lambda data, folder: b"{", "Expecting"),
    "absurd value": (
        "config.json",
        lambda data, folder: data.replace(b'"stem_width": 16', b'"stem_width": 160000000'),
        "stem_width=160000000 is not allowed",
    ),
    "unknown field": (
        "config.json",
        lambda data, folder: data.replace(b'"stem_width": 16', b'"stem_width": 16, "surprise": 1'),
        "unknown fields ['surprise']",
    ),
    "labels": (
        "config.json",
        lambda data, folder: json.dumps(json.loads(data) | {"label_names": ["a", "b"]}).encode(),
        "2 label_names, 2 of them distinct, for 10 classes",
    ),
}


@pytest.mark.parametrize("what", PUBLISHED_BROKEN)
def test_what_was_published_broken_is_said_and_loads_once_mended(hub, repo, saved, what, tmp_path):
    file, damage, cause = PUBLISHED_BROKEN[what]
    whole = (saved / file).read_bytes()
    (tmp_path / "scratch").mkdir()
    broken = damage(whole, tmp_path / "scratch")
    assert broken != whole
    repo.commit({file: broken})
    message = refusal(REPO)
    assert message.startswith(f"{REPO}: {file}: ") and cause in message and "\n" not in message
    if what == "no JSON":  # as a damaged download would look
        assert broken not in [blob.read_bytes() for blob in blobs(tmp_path)]
    repo.commit({file: whole})
    assert same_answers(from_pretrained(REPO), from_pretrained(saved))


def test_another_library_s_file_stays_in_the_shared_cache(hub, saved, tmp_path):
    foreign = json.dumps({"architectures": ["ViTForImageClassification"], "hidden_size": 192}).encode()
    hub.add("google/vit-tiny", saved).commit({"config.json": foreign})
    assert "architecture" in refusal("google/vit-tiny")
    assert foreign in [blob.read_bytes() for blob in blobs(tmp_path)]


# Pushing


def test_a_pushed_model_comes_back_from_its_commit(hub):
    model = tiny()
    model.labels = tuple(f"thing {i}" for i in range(10))
    address = model.push_to_hub(REPO, token=TOKEN)
    assert address == f"{hub.endpoint}/{REPO}"
    back = from_pretrained(REPO)
    assert same_answers(back, model) and back.labels == model.labels
    assert back.revision == hub.repo(REPO).refs["main"]


def test_a_push_is_one_commit_and_pushing_the_same_again_is_none(hub):
    model = tiny()
    model.push_to_hub(REPO, token=TOKEN)
    assert len(hub.repo(REPO).commits) == 2  # the Hub's own first one, and this
    model.push_to_hub(REPO, token=TOKEN)
    assert len(hub.repo(REPO).commits) == 2


def test_a_pushed_private_model_is_private(hub):
    tiny().push_to_hub(REPO, private=True, token=TOKEN)
    assert "private" in refusal(REPO)
    assert from_pretrained(REPO, token=TOKEN).source == REPO


def test_what_was_meant_to_be_private_is_not_put_into_a_public_repository(hub, repo):
    before = dict(repo.refs)
    with pytest.raises(CheckpointError, match="exists and is public"):
        tiny(num_classes=3).push_to_hub(REPO, private=True, token=TOKEN)
    assert repo.refs == before


def test_a_section_written_on_the_hub_survives_a_push(hub):
    tiny().push_to_hub(REPO, token=TOKEN)
    card = hub.files(REPO)["README.md"].decode()
    mine = card.replace("## Use", "## Thanks\n\nTo Anna.\n\n## Use").replace(
        "license: mit", "license: mit\nx: 1"
    )
    api = HfApi(token=TOKEN)
    api.upload_file(path_or_fileobj=mine.encode(), path_in_repo="README.md", repo_id=REPO)
    tiny(num_classes=7).push_to_hub(REPO, token=TOKEN)
    after = hub.files(REPO)["README.md"].decode()
    assert "To Anna." in after and ModelCard(after).data.to_dict()["x"] == 1
    assert after.count("## Use\n") == 1 and "Classes: 0, 1, 2, 3, 4, 5, 6." in after


def test_a_lost_answer_to_the_commit_makes_no_second_one(hub):
    lost = once(lambda method, path, answer: "lose" if "/commit/" in path else None)
    hub.faults = [lost]
    model = tiny()
    model.push_to_hub(REPO, token=TOKEN)
    assert len(hub.repo(REPO).commits) == 2 and same_answers(from_pretrained(REPO), model)


@pytest.mark.parametrize("code", [429, 500, 503])
@pytest.mark.parametrize("step", ["/preupload/", "/large/", "/commit/"])
def test_an_upload_that_fails_leaves_the_branch_as_it_was_and_a_retry_works(
    hub, repo, step, code, monkeypatch
):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    before = dict(repo.refs)
    hub_answers = hub.answer
    monkeypatch.setattr(  # the fault replaces the deed, not only its answer
        hub, "answer", lambda m, p, *rest: error(code) if step in p else hub_answers(m, p, *rest)
    )
    model = tiny(num_classes=3)
    with pytest.raises(CheckpointError, match=f"^{REPO}: "):
        model.push_to_hub(REPO, token=TOKEN)
    assert repo.refs == before
    monkeypatch.setattr(hub, "answer", hub_answers)
    model.push_to_hub(REPO, token=TOKEN)
    assert from_pretrained(REPO).config.num_classes == 3


def test_a_commit_that_somebody_else_overtook_changes_nothing(hub, repo):
    model, real = tiny(num_classes=3), hub.take_commit

    def late(request, *rest):
        repo.commit({"somebody.txt": b"was faster"})
        return real(request, *rest)

    hub.take_commit = late
    with pytest.raises(CheckpointError, match="changed meanwhile; try again"):
        model.push_to_hub(REPO, token=TOKEN)
    hub.take_commit = real
    assert hub.files(REPO)["somebody.txt"] and from_pretrained(REPO).config.num_classes == 10


def test_a_name_without_an_owner_is_refused_before_anything_is_created(hub):
    with pytest.raises(CheckpointError, match="'net' is not of the form owner/name"):
        tiny().push_to_hub("net", token=TOKEN)
    assert not hub.repos


def test_pushing_without_a_token_says_how_to_log_in(hub):
    with pytest.raises(CheckpointError, match="hf auth login"):
        tiny().push_to_hub(REPO)


# The token


@pytest.mark.parametrize("token", [TOKEN, TOKEN + "\n", "hf_wrongTokenWrongTokenWrongToken12"])
def test_a_token_is_in_no_error_and_no_file(hub, saved, token, capfd, tmp_path, caplog):
    hub.add("somebody/private", saved, private=True)
    hub.faults = [on(WEIGHTS, lambda answer: error(503))]
    said = []
    for deed in (
        lambda: from_pretrained("somebody/private", token=token),
        lambda: from_pretrained("somebody/nothing", token=token),
        lambda: tiny().push_to_hub("nobody/net", token=token),
    ):
        try:
            deed()
        except CheckpointError as caught:
            said.append("".join(traceback.format_exception(caught)))
            assert token.strip() not in said[-1], said[-1]
    assert len(said) >= 2
    out = "".join(capfd.readouterr()) + caplog.text
    assert token.strip() not in out
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or token.strip().encode() not in path.read_bytes()


def test_any_token_is_blotted_out_of_a_message():
    assert without_token("Bearer hf_someoneElses123 and secret\n", "secret\n") == "Bearer hf_*** and ***\n"


@pytest.mark.parametrize("name", ["vgg16", "resnet18", "lenet5"])
def test_config_says_what_the_last_layer_is_and_whether_the_size_is_fixed(name, tmp_path):
    size = {"input_size": 32} if name == "vgg16" else {}
    create_model(name, num_classes=3, **size).save_pretrained(tmp_path)
    cfg = json.loads((tmp_path / "config.json").read_text())["pretrained_cfg"]
    weights = load_file(tmp_path / WEIGHTS)
    assert weights[cfg["classifier"] + ".weight"].shape[0] == 3
    assert weights[cfg["first_conv"] + ".weight"].ndim == 4
    assert cfg["fixed_input_size"] is (name != "resnet18")
