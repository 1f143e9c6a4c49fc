"""onnxruntime-web's files for the page: downloaded once from the npm registry, pinned by hash, cached."""

from __future__ import annotations

import base64
import hashlib
import os
import tarfile
from http.client import HTTPException
from io import BytesIO
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from resnet_hub.errors import Refusal
from resnet_hub.files import write_contents

VERSION = "1.30.0"
TARBALL = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
TARBALL_SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
FILES = {  # sha256
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
SECONDS = 120  # without an answer


def cache_folder() -> Path:
    """Where the files are kept: XDG_CACHE_HOME, by default ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "resnet_hub" / f"onnxruntime-web-{VERSION}"


def is_cached() -> bool:
    """Whether all files are in the cache and undamaged."""
    return all(_is_right(cache_folder() / name, known) for name, known in FILES.items())


def runtime_files() -> dict[str, Path]:
    """{name: path} of the files in the cache, downloaded where they are not there.

    Raises:
        Refusal: when they cannot be downloaded, or are not the ones this version was tested with.
    """
    folder = cache_folder()
    if not is_cached():
        contents = unpacked(download(TARBALL))
        write_contents({folder / name: data for name, data in contents.items()})
    return {name: folder / name for name in FILES}


def download(address: str) -> bytes:
    """The bytes at an address.

    Raises:
        Refusal: when it cannot be reached.
    """
    try:
        with urlopen(address, timeout=SECONDS) as answer:
            return answer.read()
    except (URLError, OSError, HTTPException) as error:
        why = getattr(error, "reason", error)
        raise Refusal(
            f"{address} cannot be downloaded ({why}). The page needs it once: connect to the network and "
            f"repeat the command, or unpack its dist/{{{','.join(FILES)}}} into {cache_folder()}"
        ) from error


def unpacked(tarball: bytes) -> dict[str, bytes]:
    """{name: content} of the page's files in onnxruntime-web's tarball.

    Raises:
        Refusal: for another tarball.
    """
    if base64.b64encode(hashlib.sha512(tarball).digest()).decode() != TARBALL_SHA512:
        raise Refusal(
            f"{TARBALL} has changed: its {len(tarball):,} bytes have another hash than the ones this version "
            "was tested with. Nothing was written; repeat the command, and if it stays so, report it"
        )
    with tarfile.open(fileobj=BytesIO(tarball)) as archive:
        members = {name: archive.extractfile(f"package/dist/{name}") for name in FILES}
        return {name: member.read() for name, member in members.items() if member}


def _is_right(path: Path, known: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == known
