"""A folder of files -> one commit on the Hub, safe to repeat.

The commit names the one it builds on, so that a repeated or overtaken upload cannot land twice, and files
that are there already make no commit. Knows nothing of networks, and of model cards only how two are merged.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download

from resnet_hub.hub.card_merge import merged
from resnet_hub.hub.fetch import (
    CARD_FILE,
    CONFIG_FILE,
    WEIGHTS_FILE,
    CheckpointError,
    is_as_published,
    plain_errors,
)

RUN_FILES = {
    "run.json",
    "history.jsonl",
    "curves.png",
    "confusion.png",
}  # beside a checkpoint that was trained
COMMIT_MESSAGE = "Upload checkpoint"


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
    message: str = COMMIT_MESSAGE,
) -> Pushed:
    """Upload all files of `folder` in one commit, creating the repository.

    The card in the folder is first merged with the one that is there (models only), on this disk too.

    Raises:
        CheckpointError: when that cannot be done, or is not known to be; repeating it is safe.
    """
    api = HfApi(token=token)
    kind = {"repo_type": repo_type}
    with plain_errors(repo_id, "the repository", token):
        sdk = {"space_sdk": "gradio"} if repo_type == "space" else {}
        url = api.create_repo(repo_id, private=private, exist_ok=True, **kind, **sdk)
        head = api.repo_info(repo_id, files_metadata=True, **kind)
    refuse_public(repo_id, head, private)
    if repo_type == "model":
        merge_remote_card(repo_id, folder / CARD_FILE, head, token)
    changed = changed_files(folder, head)
    if not changed:
        return Pushed(str(url), head.sha, ())
    operations = [CommitOperationAdd(name, path) for name, path in changed.items()]
    if WEIGHTS_FILE in changed:  # what an earlier run recorded does not describe these weights
        stale = {file.rfilename for file in head.siblings or []} & RUN_FILES - {*local_files(folder)}
        operations += [CommitOperationDelete(name) for name in sorted(stale)]
    try:
        with plain_errors(repo_id, ", ".join(changed), token):
            commit = api.create_commit(
                repo_id, operations, commit_message=message, parent_commit=head.sha, **kind
            )
        revision = commit.oid
    except CheckpointError:  # the answer may be lost, or be to a retry of what had landed
        revision = landed_after_all(api, repo_id, folder, kind)
        if revision is None:
            raise
    return Pushed(str(url), revision, tuple(changed))


def landed_after_all(api: HfApi, repo_id: str, folder: Path, kind: dict[str, Any]) -> str | None:
    """The commit that holds the files although its answer was lost on the way; None where there is none."""
    with plain_errors(repo_id, "the repository", api.token):
        head = api.repo_info(repo_id, files_metadata=True, **kind)
    return None if changed_files(folder, head) else head.sha


def refuse_public(repo_id: str, head, private: bool | None) -> None:
    """Not to publish what was meant to be private: an existing repository keeps its visibility."""
    if private and not head.private:
        raise CheckpointError(
            f"{repo_id}: the repository exists and is public; make it private in its settings on the Hub, "
            "or choose another name"
        )


def changed_files(folder: Path, head) -> dict[str, Path]:
    """{path in the repository: path here} of the files that are not there as they are here."""
    remote = {file.rfilename: file for file in head.siblings or []}
    return {
        name: path
        for name, path in local_files(folder).items()
        if name not in remote or not is_as_published(path, remote[name])
    }


def local_files(folder: Path) -> dict[str, Path]:
    """{path in the repository: path here}"""
    return {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}


def answers_alike(folder: Path, repo_id: str, head, token: str | None) -> bool:
    """Whether both configurations make the same answers of the same weights."""
    if CONFIG_FILE not in {file.rfilename for file in head.siblings or []}:
        return False
    with plain_errors(repo_id, CONFIG_FILE, token):
        remote = Path(hf_hub_download(repo_id, CONFIG_FILE, revision=head.sha, token=token))
    try:
        both = [json.loads(path.read_text(encoding="utf-8")) for path in (folder / CONFIG_FILE, remote)]
        ours, theirs = [[values.get(key) for key in ("resnet_hub", "label_names")] for values in both]
    except (OSError, ValueError, AttributeError):
        return False
    return ours == theirs


def merge_remote_card(repo_id: str, card: Path, head, token: str | None) -> None:
    """Rewrite the card in the folder as the merger of the remote one and itself."""
    if not card.is_file() or CARD_FILE not in {file.rfilename for file in head.siblings or []}:
        return
    with plain_errors(repo_id, CARD_FILE, token):
        remote = Path(hf_hub_download(repo_id, CARD_FILE, revision=head.sha, token=token))
    text = remote.read_text(encoding="utf-8", errors="replace")
    same = WEIGHTS_FILE not in changed_files(card.parent, head) and answers_alike(
        card.parent, repo_id, head, token
    )
    both = merged(text, card.read_text(encoding="utf-8"), same_weights=same)
    card.write_text(both, encoding="utf-8")
