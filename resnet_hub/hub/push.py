"""A folder of files -> one commit on the Hub, safe to repeat.

The commit names its parent, so that a repeated or overtaken upload cannot land twice, and files that are
there already make no commit.
"""

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from resnet_hub.hub.card_merge import merged
from resnet_hub.hub.fetch import (
    CARD_FILE,
    CONFIG_FILE,
    REPO_ID,
    WEIGHTS_FILE,
    CheckpointError,
    Resolved,
    download_checked,
    is_as_published,
    plain_errors,
    resolve,
    retried,
)
from resnet_hub.preprocess import Preprocess

RECORD = "run.json"
BESIDE = ("history.jsonl", "curves.png", "confusion.png")  # what a training run leaves beside its checkpoint
COMMIT_MESSAGE = "Upload checkpoint"


@dataclass(frozen=True)
class Space:
    """What kind of Space to create.

    Args:
        sdk: "gradio" or "static".
        hardware: the Hub's name of the machine, e.g. "zero-a10g" or "cpu-upgrade"; None leaves it to the Hub.
    """

    sdk: str
    hardware: str | None = None


@dataclass(frozen=True)
class Pushed:
    """What is on the Hub after a push.

    Args:
        url: address of the repository.
        revision: the commit that holds the files.
        changed: names of the files that this push changed; empty where all were there already.
    """

    url: str
    revision: str
    changed: tuple[str, ...]


def push_folder(
    repo_id: str,
    folder: Path,
    *,
    private: bool | None = None,
    token: str | None = None,
    repo_type: str = "model",
    space: Space | None = None,
    message: str = COMMIT_MESSAGE,
) -> Pushed:
    """Upload all files of `folder` in one commit, creating the repository.

    A model's card is first merged with the one on the Hub, in the folder too. With other weights, the files
    that an earlier training run recorded there (`RECORD` and `BESIDE`) are deleted.

    Args:
        space: what to ask for where a Space is to be created.

    Raises:
        CheckpointError: when the upload failed or its outcome is unknown; repeating it is safe.
    """
    if not REPO_ID.fullmatch(repo_id):  # the Hub would create it for the token's owner, and not find it so
        raise CheckpointError(f"{repo_id!r} is not of the form owner/name")
    token = token.strip() if token else token
    api = HfApi(token=token)
    with plain_errors(repo_id, "the repository", token):
        wish = {"private": private, "exist_ok": True, "repo_type": repo_type, **_wished(space)}
        url = str(retried(partial(api.create_repo, repo_id, **wish)))
    head = resolve(repo_id, token=token, repo_type=repo_type, label="the repository")
    if private and not head.is_private:  # an existing repository keeps its visibility
        raise CheckpointError(
            f"{repo_id}: the repository exists and is public; make it private in its settings on the Hub, "
            "or choose another name"
        )
    changed = changed_files(folder, head)
    if repo_type == "model" and CARD_FILE in changed and CARD_FILE in head.files:
        merge_remote_card(folder, head, WEIGHTS_FILE not in changed)
        if is_as_published(changed[CARD_FILE], head.files[CARD_FILE]):
            del changed[CARD_FILE]
    if not changed:
        return Pushed(url, head.commit, ())
    return Pushed(url, commit_files(api, folder, changed, head, repo_type, message), tuple(changed))


def _wished(space: Space | None) -> dict[str, Any]:
    if space is None:
        return {}
    return {"space_sdk": space.sdk} | ({"space_hardware": space.hardware} if space.hardware else {})


def commit_files(
    api: HfApi, folder: Path, changed: dict[str, Path], head: Resolved, repo_type: str, message: str
) -> str:
    """Make the one commit of the changed files on top of `head` and return its id."""
    operations: list = [CommitOperationAdd(name, path) for name, path in changed.items()]
    if WEIGHTS_FILE in changed and RECORD in head.files:  # an earlier run's do not describe these weights
        stale = head.files.keys() & {RECORD, *BESIDE} - local_files(folder).keys()
        operations += [CommitOperationDelete(name) for name in sorted(stale)]
    where: dict[str, Any] = {"parent_commit": head.commit, "repo_type": repo_type}
    try:
        with plain_errors(head.repo_id, ", ".join(changed), head.token):
            return api.create_commit(head.repo_id, operations, commit_message=message, **where).oid
    except CheckpointError:  # it may have landed all the same, its answer lost or given to a retry
        now = resolve(head.repo_id, token=head.token, repo_type=repo_type, label="the repository")
        if changed_files(folder, now):
            raise
        return now.commit


def changed_files(folder: Path, head: Resolved) -> dict[str, Path]:
    """{path in the repository: path here} of the files that are missing there or differ."""
    return {
        name: path
        for name, path in local_files(folder).items()
        if name not in head.files or not is_as_published(path, head.files[name])
    }


def local_files(folder: Path) -> dict[str, Path]:
    """{path in the repository: path here}"""
    return {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}


def merge_remote_card(folder: Path, head: Resolved, has_same_weights: bool) -> None:
    """Merge what people wrote on the remote card into the one in the folder."""
    card = folder / CARD_FILE
    remote = download_checked(head, CARD_FILE).read_text(encoding="utf-8", errors="replace")
    same = has_same_weights and answers_alike(folder, head)
    card.write_text(merged(remote, card.read_text(encoding="utf-8"), same_weights=same), encoding="utf-8")


def answers_alike(folder: Path, head: Resolved) -> bool:
    """Whether the remote configuration turns the same weights into the same answers."""
    if CONFIG_FILE not in head.files:
        return False
    paths = (folder / CONFIG_FILE, download_checked(head, CONFIG_FILE))
    try:
        ours, theirs = [what_answers(json.loads(path.read_text(encoding="utf-8"))) for path in paths]
    except (OSError, ValueError, AttributeError):
        return False
    return ours == theirs


def what_answers(values: dict[str, Any]) -> tuple:
    """What of a `config.json` decides, with the weights, how an image is answered.

    Raises:
        ValueError: for preprocessing that is not allowed.
    """
    preprocess = Preprocess.from_pretrained_cfg(values.get("pretrained_cfg") or {})
    return values.get("resnet_hub"), values.get("label_names"), preprocess
