"""Where a checkpoint's files are: shipped with the package, in a directory, or downloaded and checked.

All files of a repository come from one commit, and what was downloaded is compared with the hashes the Hub
publishes. Knows nothing of networks or of what the files hold.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, get_token, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "config.json", "model.safetensors", "README.md"
PROCESSOR_FILE = "preprocessor_config.json"  # transformers'
SHIPPED = Path(__file__).parents[1] / "weights"
MOST_BYTES = {CONFIG_FILE: 5 << 20, WEIGHTS_FILE: 2 << 30, CARD_FILE: 1 << 20, PROCESSOR_FILE: 1 << 20}
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
REPO_ID = re.compile(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}")  # not ../name, which is a directory
PATIENCE = 10  # seconds until a Hub that does not answer counts as out of reach


class CheckpointError(ValueError):
    """A checkpoint that cannot be had or used; one line naming repository or directory, file and cause."""


class HubUnreachable(CheckpointError):
    """The Hub does not answer, or answers that it cannot just now."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's files on this disk and where they came from."""

    source: str
    revision: str
    config: Path
    weights: Path

    @property
    def is_cached(self) -> bool:
        """Whether the files are a Hub client's cache, which another download fills again."""
        return self.revision not in ("shipped", "local")


def fetch_checkpoint(
    repo_id_or_dir: str | Path,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | None = None,
    local_files_only: bool = False,
    tqdm_class: type | None = None,
) -> Checkpoint:
    """Find a checkpoint on disk or download it; all files come from one commit.

    Where the Hub cannot be reached, what was downloaded before is used.

    Raises:
        CheckpointError: when it cannot be had.
    """
    source = str(repo_id_or_dir)
    found = local_directory(source)
    if found is not None:
        directory, kind = found
        for file in (CONFIG_FILE, WEIGHTS_FILE):
            if not (directory / file).is_file():
                raise CheckpointError(f"{directory}: {file} is missing; a checkpoint directory holds it")
        return Checkpoint(source, kind, directory / CONFIG_FILE, directory / WEIGHTS_FILE)
    files = (CONFIG_FILE, WEIGHTS_FILE)
    where = {"revision": revision, "token": token, "cache_dir": cache_dir, "tqdm_class": tqdm_class}
    commit, paths = fetch_files(source, files, local_files_only=local_files_only, **where)
    return Checkpoint(source, commit, *paths)


def fetch_card(repo_id_or_dir: str | Path, **where) -> str | None:
    """The text of a checkpoint's model card; None where it has none. See `fetch_text`."""
    return fetch_text(repo_id_or_dir, CARD_FILE, **where)


def fetch_text(
    repo_id_or_dir: str | Path,
    file: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | None = None,
    local_files_only: bool = False,
) -> str | None:
    """The text of one of a checkpoint's files; None where it has none.

    Raises:
        CheckpointError: when it cannot be had.
    """
    source = str(repo_id_or_dir)
    found = local_directory(source)
    if found is not None:
        path = found[0] / file
        return path.read_text(encoding="utf-8") if path.is_file() else None
    where = {"revision": revision, "token": token, "cache_dir": cache_dir}
    try:
        _, (path,) = fetch_files(source, (file,), local_files_only=local_files_only, **where)
    except MissingFile:
        return None
    return path.read_text(encoding="utf-8", errors="replace")


class MissingFile(CheckpointError):
    """The repository is there, the file is not."""


def shipped_names() -> list[str]:
    """The checkpoints that come with this package."""
    return sorted(entry.name for entry in os.scandir(SHIPPED) if entry.is_dir())


def local_directory(source: str) -> tuple[Path, str] | None:
    """(directory, "shipped" or "local") of a checkpoint on this machine; None for a Hub repository's id.

    Raises:
        CheckpointError: for a name that can be neither.
    """
    shipped = SHIPPED / source
    if re.fullmatch(r"\w+", source) and os.path.isdir(shipped):
        return shipped, "shipped"
    if os.path.isdir(source):  # Path.is_dir raises OSError for a name that is too long
        return Path(source), "local"
    if REPO_ID.fullmatch(source):
        return None
    raise CheckpointError(
        f"{source!r} is no directory here; give one, a Hub repository (owner/name), "
        f"or a checkpoint shipped with this package: {', '.join(shipped_names())}"
    )


def fetch_files(
    repo_id: str,
    files: tuple[str, ...],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | None = None,
    local_files_only: bool = False,
    tqdm_class: type | None = None,
) -> tuple[str, list[Path]]:
    """(commit, paths) of some files of a repository, all from that commit.

    Raises:
        CheckpointError: when they cannot be had.
    """
    if local_files_only:
        return cached_files(repo_id, files, revision, cache_dir)
    try:
        info = published(repo_id, revision=revision, token=token)
        refuse_unsuitable(repo_id, info, files)
        where = {"token": token, "cache_dir": cache_dir}
        if tqdm_class is not None:
            where["tqdm_class"] = tqdm_class
        paths = [download_checked(repo_id, file, info, **where) for file in files]
    except HubUnreachable:
        with suppress(CheckpointError):
            return cached_files(repo_id, files, revision, cache_dir)
        raise
    remember_branch(paths[0], revision or "main", info.sha)
    return info.sha, paths


def published(repo_id: str, *, revision: str | None = None, token: str | bool | None = None):
    """What the Hub says of a repository: its commit (`sha`), and each file's size and hash (`siblings`)."""
    with plain_errors(repo_id, CONFIG_FILE, token):
        info = HfApi(token=token).model_info(
            repo_id, revision=revision, files_metadata=True, timeout=PATIENCE
        )
    return info


def download_size(repo_id_or_dir: str, *, token: str | bool | None = None, cache_counts: bool = False) -> int:
    """Bytes that loading a repository downloads; 0 for what is on this machine.

    Args:
        cache_counts: whether files of the newest commit in the Hub's cache are on this machine.

    Raises:
        CheckpointError: when there is no such repository, or it holds nothing that could be loaded.
    """
    if local_directory(repo_id_or_dir) is not None:
        return 0
    info = published(repo_id_or_dir, token=token)
    refuse_unsuitable(repo_id_or_dir, info, (CONFIG_FILE, WEIGHTS_FILE))
    return sum(
        file.size or 0
        for file in info.siblings
        if file.rfilename in (CONFIG_FILE, WEIGHTS_FILE)
        and not (cache_counts and _is_cached(repo_id_or_dir, file.rfilename, info.sha))
    )


def _is_cached(repo_id: str, file: str, commit: str) -> bool:
    return isinstance(try_to_load_from_cache(repo_id, file, revision=commit), str)


def refuse_unsuitable(repo_id: str, info, files: tuple[str, ...]) -> None:
    """Say before any download what is missing, too large, or only there as a pickle."""
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
    if WEIGHTS_FILE in files and WEIGHTS_FILE not in sizes and any(f.endswith(PICKLES) for f in sizes):
        raise CheckpointError(
            f"{repo_id}: {WEIGHTS_FILE} is missing; it holds only pickled weights, which can run code "
            f"when loaded; ask its owner for {WEIGHTS_FILE}"
        )
    for file in files:
        if file not in sizes:
            raise MissingFile(f"{repo_id}: {file}: the repository does not hold this file")
        if sizes[file] > MOST_BYTES[file]:
            raise CheckpointError(
                f"{repo_id}: {file} has {sizes[file]:,} bytes; "
                f"{MOST_BYTES[file]:,} is the most that is loaded"
            )


def download_checked(repo_id: str, file: str, info, *, token: str | bool | None, **where) -> Path:
    """One file of the commit `info.sha`, equal to what the Hub published; a broken one is not kept."""
    with plain_errors(repo_id, file, token):
        path = Path(hf_hub_download(repo_id, file, revision=info.sha, token=token, **where))
    (sibling,) = (sibling for sibling in info.siblings if sibling.rfilename == file)
    if not is_as_published(path, sibling):
        discard(path)
        raise CheckpointError(
            f"{repo_id}: {file}: the {'sha256' if sibling.lfs else 'hash'} of the download is not the one "
            "the Hub publishes; the damaged file was deleted, try again"
        )
    return path


def is_as_published(path: Path, sibling) -> bool:
    """Whether a file has the hash that the Hub lists for it: sha256 in large file storage, else git's."""
    if sibling.lfs is not None:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sibling.lfs.sha256
    if sibling.blob_id is None:  # huggingface_hub's type allows it; the Hub lists one for every file
        return sibling.size is None or path.stat().st_size == sibling.size
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() == sibling.blob_id


def discard(path: Path) -> None:
    """Take a file out of the Hub cache: the link of the snapshot and the blob it points to."""
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def cached_files(
    repo_id: str, files: tuple[str, ...], revision: str | None, cache_dir: str | None
) -> tuple[str, list[Path]]:
    """(commit, paths) of files downloaded before, without the network."""
    paths = []
    for file in files:
        with plain_errors(repo_id, file, None):
            path = hf_hub_download(
                repo_id, file, revision=revision, cache_dir=cache_dir, local_files_only=True
            )
        paths.append(Path(path))
    return paths[0].parent.name, paths


def remember_branch(path: Path, revision: str, commit: str) -> None:
    """Note in the cache which commit a branch stood for, so that it is found again without the network.

    huggingface_hub does this for downloads by branch; these are by commit, so that all are from the same.
    """
    if revision == commit or not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", revision) or ".." in revision:
        return
    reference = path.parents[2] / "refs" / revision
    with suppress(OSError):  # a cache that is mounted read-only
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(commit)


@contextmanager
def plain_errors(repo_id: str, file: str, token: str | bool | None) -> Iterator[None]:
    """Turn whatever the Hub client raises into a CheckpointError of one line, without the token."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # huggingface_hub lets its own, httpx's and the system's errors through
        kind = HubUnreachable if is_passing(error) else CheckpointError
        kind = MissingFile if isinstance(error, EntryNotFoundError) and kind is CheckpointError else kind
        # The original can quote the request's headers, so it is not shown beneath.
        raise kind(f"{repo_id}: {file}: {without_token(reason(error), token)}") from None


def is_passing(error: Exception) -> bool:
    """Whether the Hub is out of reach or overloaded, rather than refusing this very request."""
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return error.response.status_code == 429 or error.response.status_code >= 500
    if isinstance(error, (LocalEntryNotFoundError, ConnectionError, TimeoutError)):
        return True
    return type(error).__module__.startswith("httpx") and type(error).__name__ != "LocalProtocolError"


def reason(error: Exception) -> str:
    """One line on what went wrong and what to do."""
    reasons = [
        (GatedRepoError, "access is gated; accept its terms on the Hub and log in with `hf auth login`"),
        (RevisionNotFoundError, "no such branch, tag or commit"),
        (RepositoryNotFoundError, "no such repository on the Hub, or a private one and no valid token"),
        (LocalEntryNotFoundError, "not in the cache, and the Hub could not be reached; check the connection"),
        (EntryNotFoundError, "the repository does not hold this file"),
    ]  # fmt: skip
    for kind, words in reasons:
        if isinstance(error, kind):
            return words
    detail = (str(error).splitlines() or [""])[0][:200]
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        return status_reason(error.response.status_code)
    if "Consistency check failed" in detail:
        return "the download has the wrong size, cut short or altered on its way; nothing was kept, try again"
    if is_passing(error):
        return f"the Hub could not be reached ({type(error).__name__}: {detail}); check the connection"
    return f"{type(error).__name__}: {detail}"


def status_reason(status: int) -> str:
    """One line on an HTTP status that has no exception of its own."""
    if status == 429:
        return "the Hub answered with status 429, too many requests; wait a minute and try again"
    if status in (401, 403):
        return (
            f"the Hub answered with status {status}; log in with `hf auth login` as someone who may do this"
        )
    if status in (409, 412):
        return f"the Hub answered with status {status}: the repository changed meanwhile; try again"
    return f"the Hub answered with status {status}; try again later"


def without_token(text: str, token: str | bool | None) -> str:
    """`text` with access tokens blotted out: the one in use, and whatever begins as the Hub's do."""
    token = token if isinstance(token, str) else get_token()
    if token and token.strip():
        text = text.replace(token.strip(), "***")
    return re.sub(r"\bhf_\w{4,}", "hf_***", text)
