"""Where a checkpoint's files are: shipped with the package, in a directory, or downloaded and checked.

A Hub repository is resolved once: one request names the commit and every file's size and hash, and whatever
follows (the size check, the downloads, the comparison with the published hashes) uses that answer.

`snapshot_download` does not fit: for a commit it requests the file list again and writes no refs, it shows
one bar for all files, and on a 401 it falls back to the cache, which hides that a repository went private.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack

from huggingface_hub import HfApi, constants, get_token, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # of httpx or httpx2, whichever this client is built on
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoSibling

from resnet_hub.config import ModelConfig, config_from_dict
from resnet_hub.errors import Refusal, first_line
from resnet_hub.hub import commit_of
from resnet_hub.hub.client import TooSlow, bounded

CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "config.json", "model.safetensors", "README.md"
PROCESSOR_FILE = "preprocessor_config.json"  # transformers'
SHIPPED = Path(__file__).parents[1] / "weights"
MOST_BYTES = {CONFIG_FILE: 5 << 20, WEIGHTS_FILE: 2 << 30, CARD_FILE: 1 << 20, PROCESSOR_FILE: 1 << 20}
MOST_PAGE = 1 << 20  # bytes beyond what was published: what comes instead has to be read to be named
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
REPO_ID = re.compile(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}")  # not ../name, which is a directory
PATIENCE = 10  # seconds until a Hub that does not answer counts as out of reach
RETRY_SECONDS = (0.5, 1.5)  # before a first request is asked again, where the Hub names no time
NOT_CACHED = "not in the cache, and the Hub could not be reached; check the connection"
REASONS = {  # the first class that fits
    GatedRepoError: "access is gated; accept its terms on the Hub and log in with `hf auth login`",
    RevisionNotFoundError: "no such branch, tag or commit",
    RepositoryNotFoundError: "no such repository on the Hub, or a private one and no valid token",
    LocalEntryNotFoundError: NOT_CACHED,
    EntryNotFoundError: "the repository does not hold this file",
}
CODES = {  # of the same, where a page has words for it
    GatedRepoError: "checkpoint_gated",
    RepositoryNotFoundError: "checkpoint_no_repository",
    EntryNotFoundError: "checkpoint_missing_file",
}
STATUS_ADVICE = {
    **dict.fromkeys((401, 403), "; log in with `hf auth login` to an account that may do this"),
    402: ": it asks to be paid for this. A Space without a server is free: give --space static, or with a "
    "paid plan choose a machine with --space-hardware",
    **dict.fromkeys((409, 412), ": the repository changed meanwhile; try again"),
    429: ", too many requests; wait a minute and try again",
}

Answer = TypeVar("Answer")
# Read when Xet is first used; by default it tries for minutes on end.
os.environ.setdefault("HF_XET_CLIENT_RETRY_MAX_ATTEMPTS", "2")


class CheckpointError(Refusal):
    """A checkpoint that cannot be found or used; one line naming repository or directory, file and cause."""


class HubUnreachable(CheckpointError):
    """The Hub does not answer, or answers that it cannot just now."""


class HubSlow(HubUnreachable):
    """The Hub's answers take longer than whoever asks would wait."""


class MissingFile(CheckpointError):
    """The repository is there, the file is not."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's files on this disk and where they came from."""

    source: str
    revision: str
    config: Path
    weights: Path

    @property
    def is_cached(self) -> bool:
        """Whether the files lie in a Hub client's cache, where another download replaces them."""
        return commit_of(self.revision) is not None


@dataclass(frozen=True)
class Resolved:
    """A Hub repository at one commit, with the size and hash the Hub publishes for each of its files."""

    repo_id: str
    commit: str
    files: dict[str, RepoSibling]
    is_private: bool = False
    token: str | bool | None = field(default=None, repr=False)


class Where(TypedDict, total=False):
    """How a Hub repository is read; directories need none of it.

    Args:
        revision: branch, tag or commit; the main branch by default.
        token: access token, False for none; by default the one that `hf auth login` stored.
        cache_dir: the Hub client's own by default.
        local_files_only: use earlier downloads and send no request.
        tqdm_class: progress bar of each download, by default huggingface_hub's.
        before_download: called with the number of bytes about to be downloaded, if any; raise to refuse.
    """

    revision: str | None
    token: str | bool | None
    cache_dir: str | None
    local_files_only: bool
    tqdm_class: type | None
    before_download: Callable[[int], None] | None


def fetch_checkpoint(repo_id_or_dir: str | Path, **where: Unpack[Where]) -> Checkpoint:
    """Find a checkpoint on disk or download it; all files come from one commit.

    When the Hub cannot be reached, an earlier download is used.

    Raises:
        CheckpointError: when it is missing, cannot be downloaded or does not match its published hashes.
    """
    source, files = str(repo_id_or_dir), (CONFIG_FILE, WEIGHTS_FILE)
    found = local_directory(source)
    if found is None:
        commit, paths = fetch_files(source, files, **where)
        return Checkpoint(source, commit, *paths)
    directory, kind = found
    for file in files:
        if not (directory / file).is_file():
            raise CheckpointError(f"{directory}: {file} is missing; a checkpoint directory holds it")
    return Checkpoint(source, kind, directory / CONFIG_FILE, directory / WEIGHTS_FILE)


def fetch_card(repo_id_or_dir: str | Path, **where: Unpack[Where]) -> str | None:
    """The text of a checkpoint's model card; None where it has none. See `fetch_text`."""
    return fetch_text(repo_id_or_dir, CARD_FILE, **where)


def fetch_text(repo_id_or_dir: str | Path, file: str, **where: Unpack[Where]) -> str | None:
    """The text of one of a checkpoint's files; None where it has none.

    Raises:
        CheckpointError: when it cannot be downloaded or does not match its published hash.
    """
    found = local_directory(str(repo_id_or_dir))
    if found is not None:
        path = found[0] / file
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
    try:
        _, (path,) = fetch_files(str(repo_id_or_dir), (file,), **where)
    except MissingFile:
        return None
    return path.read_text(encoding="utf-8", errors="replace")


def shipped_names() -> list[str]:
    """The checkpoints that come with this package; a plain net, there to be compared with, is last."""
    names = (entry.name for entry in os.scandir(SHIPPED) if entry.is_dir())
    return sorted(names, key=lambda name: (name.startswith("plain"), name))


@cache
def shipped_config(name: str) -> ModelConfig:
    """The network of a checkpoint that comes with this package, read from its configuration alone."""
    values = json.loads((SHIPPED / name / CONFIG_FILE).read_text(encoding="utf-8"))
    return config_from_dict(values["resnet_hub"]["config"])


def local_directory(source: str) -> tuple[Path, str] | None:
    """(directory, "shipped" or "local") of a checkpoint on this machine; None for a Hub repository's id.

    Raises:
        CheckpointError: for a name that can be neither.
    """
    shipped = SHIPPED / source
    # os.path: Path.is_dir raises OSError for a name that is too long.
    if re.fullmatch(r"\w+", source) and os.path.isdir(shipped):  # noqa: PTH112
        return shipped, "shipped"
    if os.path.isdir(source):  # noqa: PTH112
        return Path(source), "local"
    if os.path.isfile(source):  # noqa: PTH113
        convert = f"python -m resnet_hub.convert {source} DIR --to resnet_hub --model NAME"
        how = "" if source.endswith(".onnx") else f"; `{convert}` makes one of weights"
        raise CheckpointError(f"{source} is a file, and a checkpoint is a directory{how}")
    if REPO_ID.fullmatch(source):
        return None
    raise CheckpointError(
        f"{source!r} is not a directory here; give a directory, a Hub repository (owner/name), "
        f"or a checkpoint shipped with this package: {', '.join(shipped_names())}"
    )


def fetch_files(
    repo_id: str,
    files: Sequence[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | None = None,
    local_files_only: bool = False,
    tqdm_class: type | None = None,
    before_download: Callable[[int], None] | None = None,
) -> tuple[str, list[Path]]:
    """(commit, paths) of some files of a repository, all from that commit. See `fetch_checkpoint`."""
    if local_files_only:
        return cached_files(repo_id, files, revision, cache_dir)
    try:
        resolved = resolve(repo_id, revision, token)
        refuse_unsuitable(resolved, files)
        size = download_size(resolved, files, cache_dir)
        if size and before_download is not None:
            before_download(size)
        paths = [download_checked(resolved, file, cache_dir, tqdm_class) for file in files]
    except HubUnreachable:
        with suppress(CheckpointError):
            return cached_files(repo_id, files, revision, cache_dir)
        raise
    remember_branch(paths[0], revision or "main", resolved.commit)
    return resolved.commit, paths


def resolve(
    repo_id: str,
    revision: str | None = None,
    token: str | bool | None = None,
    *,
    repo_type: str = "model",
    label: str = CONFIG_FILE,
) -> Resolved:
    """Ask the Hub, in one request, which commit a branch or tag is at and what files it holds.

    Args:
        label: what an error names after the repository.

    Raises:
        CheckpointError: when there is no such repository or revision, or no access to it.
        HubUnreachable: when the Hub gives no answer.
    """
    token = token.strip() if isinstance(token, str) else token
    api = HfApi(token=token)
    ask = partial(
        api.repo_info, repo_id, revision=revision, repo_type=repo_type, files_metadata=True, timeout=PATIENCE
    )
    with plain_errors(repo_id, label, token):
        try:
            with bounded():
                info: Any = retried(ask)  # models, datasets and Spaces share the fields used here
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, (HfHubHTTPError, HFValidationError, Refusal)):
                raise
            raise HubUnreachable(f"{repo_id}: {label}: {what_came(error)}") from None
    files = {file.rfilename: file for file in info.siblings or []}
    return Resolved(repo_id, info.sha, files, bool(info.private), token)


def retried(ask: Callable[[], Answer]) -> Answer:
    """The answer to a request that may be repeated, asked again while the Hub is overloaded for a moment.

    The wait is what the Hub asks for; a longer one than `PATIENCE` is left to whoever called.
    """
    for seconds in RETRY_SECONDS:
        try:
            return ask()
        except HfHubHTTPError as error:
            asked = retry_after(error)
            if not is_transient(error) or (asked or 0) > PATIENCE:
                raise
            time.sleep(seconds if asked is None else asked)
    return ask()


def retry_after(error: HfHubHTTPError) -> int | None:
    """Seconds that the Hub asks to wait before the next request; None where it does not say."""
    value = "" if error.response is None else error.response.headers.get("Retry-After", "")
    return int(value) if value.isdecimal() else None


def what_came(error: Exception) -> str:
    """What answered in the Hub's place, from the error of reading it."""
    text = str(getattr(error, "doc", "")).lstrip()
    if text.startswith("<"):
        return "an HTML page came instead of the Hub's answer; log in to this network, or look at the proxy"
    return "the Hub's answer is cut short or not its own; look at the network or the proxy, and try again"


def download_size(resolved: Resolved, files: Sequence[str], cache_dir: str | None = None) -> int:
    """Bytes to download for some files of a repository, apart from those in the cache."""
    where = {"revision": resolved.commit, "cache_dir": cache_dir}
    return sum(
        resolved.files[file].size or 0
        for file in files
        if not isinstance(try_to_load_from_cache(resolved.repo_id, file, **where), str)
    )


def refuse_unsuitable(resolved: Resolved, files: Sequence[str]) -> None:
    """Refuse, before any download, files that are missing, too large, or only there as a pickle."""
    repo_id, held = resolved.repo_id, resolved.files
    if WEIGHTS_FILE in files and WEIGHTS_FILE not in held and any(name.endswith(PICKLES) for name in held):
        raise CheckpointError(
            f"{repo_id}: {WEIGHTS_FILE} is missing; it holds only pickled weights, which can run code "
            f"when loaded; ask its owner for {WEIGHTS_FILE}",
            "checkpoint_pickled",
            file=WEIGHTS_FILE,
        )
    for file in files:
        if file not in held:
            words = f"{repo_id}: {file}: {REASONS[EntryNotFoundError]}"
            raise MissingFile(words, CODES[EntryNotFoundError], file=file)
        if (size := held[file].size or 0) > MOST_BYTES[file]:
            raise CheckpointError(
                f"{repo_id}: {file} has {size:,} bytes; {MOST_BYTES[file]:,} is the most that is loaded",
                "checkpoint_too_large",
                file=file,
                megabytes=size // 10**6,
                most=MOST_BYTES[file] // 10**6,
            )


def download_checked(
    resolved: Resolved, file: str, cache_dir: str | None = None, tqdm_class: type | None = None
) -> Path:
    """One file of the commit, identical to what the Hub published; a damaged one is not kept."""
    bar: dict[str, Any] = {} if tqdm_class is None else {"tqdm_class": tqdm_class}
    where: dict[str, Any] = {"revision": resolved.commit, "token": resolved.token, "cache_dir": cache_dir}
    published = resolved.files[file]
    with (
        plain_errors(resolved.repo_id, file, resolved.token),
        leaving_nothing(published, resolved, cache_dir),
        bounded((published.size or MOST_BYTES[file]) + MOST_PAGE),
    ):
        path = Path(hf_hub_download(resolved.repo_id, file, **where, **bar))
    if not is_as_published(path, published):
        discard(path)
        raise CheckpointError(
            f"{resolved.repo_id}: {file}: the {'sha256' if published.lfs else 'hash'} of the download is not "
            "the one the Hub publishes; the damaged file was deleted, try again",
            "checkpoint_altered",
            file=file,
        )
    return path


@contextmanager
def leaving_nothing(published: RepoSibling, resolved: Resolved, cache_dir: str | None) -> Iterator[None]:
    """Delete what a failed download leaves of a file; Xet does not go on from it."""
    try:
        yield
    except Exception:
        folder = Path(cache_dir or constants.HF_HUB_CACHE, f"models--{resolved.repo_id.replace('/', '--')}")
        hashed = published.lfs.sha256 if published.lfs else published.blob_id
        for path in folder.glob(f"blobs/{hashed}*.incomplete"):
            path.unlink(missing_ok=True)
        raise


def is_as_published(path: Path, published: RepoSibling) -> bool:
    """Whether a file has the hash that the Hub lists for it: sha256 in large file storage, else git's."""
    if published.lfs is not None:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == published.lfs.sha256
    if published.blob_id is None:  # huggingface_hub's type allows it; the Hub lists one for every file
        return published.size is None or path.stat().st_size == published.size
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() == published.blob_id


def discard(path: Path) -> None:
    """Delete a file from the Hub cache: the link of the snapshot and the blob it points to."""
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def cached_files(
    repo_id: str, files: Sequence[str], revision: str | None, cache_dir: str | None
) -> tuple[str, list[Path]]:
    """(commit, paths) of files downloaded before, without the network."""
    paths = []
    for file in files:
        path = try_to_load_from_cache(repo_id, file, cache_dir=cache_dir, revision=revision)
        if not isinstance(path, str):
            raise HubUnreachable(f"{repo_id}: {file}: {NOT_CACHED}")
        paths.append(Path(path))
    return paths[0].parent.name, paths


def remember_branch(path: Path, revision: str, commit: str) -> None:
    """Note in the cache which commit a branch is at, so that it is found without the network.

    huggingface_hub does this for downloads by branch; these are by commit, so that all are from the same.
    """
    if revision == commit or not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", revision) or ".." in revision:
        return
    reference = path.parents[2] / "refs" / revision
    with suppress(OSError):  # a cache that is mounted read-only
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(commit)


@contextmanager
def plain_errors(repo_id: str, label: str, token: str | bool | None) -> Iterator[None]:
    """Turn whatever the Hub client raises into a CheckpointError of one line, without the token."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # huggingface_hub lets its own, httpx's and the system's errors through
        kind = CheckpointError
        if isinstance(error, TooSlow):
            kind = HubSlow
        elif is_transient(error):
            kind = HubUnreachable
        elif isinstance(error, EntryNotFoundError):
            kind = MissingFile
        code = next((code for each, code in CODES.items() if isinstance(error, each)), "")
        # The original can quote the request's headers, so it is not shown beneath.
        raise kind(f"{repo_id}: {label}: {without_token(reason(error), token)}", code, file=label) from None


def is_transient(error: Exception) -> bool:
    """Whether the Hub is out of reach or overloaded, rather than refusing this very request."""
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return error.response.status_code == 429 or error.response.status_code >= 500
    return isinstance(error, (LocalEntryNotFoundError, ConnectionError, TimeoutError, HTTPError))


def reason(error: Exception) -> str:
    """One line on what went wrong and what to do."""
    for kind, words in REASONS.items():
        if isinstance(error, kind):
            return words
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        status = error.response.status_code
        asked = retry_after(error)
        when = f" (it asks for {asked:,} seconds)" if asked else ""
        return f"the Hub answered with status {status}{STATUS_ADVICE.get(status, '; try again later')}{when}"
    detail = first_line(error)[:200]
    if isinstance(error, Refusal):
        return detail
    if "Consistency check failed" in detail:  # a bare OSError of huggingface_hub's
        return "the download has the wrong size, cut short or altered on its way; nothing was kept, try again"
    name = type(error).__name__
    named = detail if detail == name else f"{name}: {detail}"
    if is_transient(error):
        return f"the Hub could not be reached ({named}); check the connection"
    return named


def without_token(text: str, token: str | bool | None) -> str:
    """`text` with access tokens blotted out: the one in use, and whatever begins as the Hub's do."""
    token = token if isinstance(token, str) else get_token()
    if token and token.strip():
        text = text.replace(token.strip(), "***")
    return re.sub(r"\bhf_\w{4,}", "hf_***", text)
