"""Files that a program names by an address instead of uploading them: fetched in bounded size and time.

Gradio itself would read an answer of any size into memory, however long it takes.
"""

from __future__ import annotations

import asyncio
import ipaddress
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import safehttpx

from resnet_hub.ui.shared.uploads import Uploads

SECONDS = 20  # for all files of a request, over all redirects
MOST_REDIRECTS = 3
MOST_FILES = 16  # of a request
AT_ONCE = 4
DEEPEST = 8  # of a payload; Gradio's own files lie in lists of dictionaries at most


class NotFetched(ValueError):
    """An address that gives no file within the bounds."""


class Remote:
    """Fetches the files that payloads name by an address.

    Args:
        uploads: where they are put; None refuses them.
        most: bytes of one file.
        most_held: bytes of all uploads, above which none is fetched.
    """

    def __init__(self, uploads: Uploads | None = None, most: int = 0, most_held: int = 0) -> None:
        self.uploads, self.most, self.most_held = uploads, most, most_held
        self._places = asyncio.Semaphore(AT_ONCE)

    async def fetched(self, payload: Any) -> Any:
        """A payload whose files lie on this disk.

        Raises:
            NotFetched: for addresses that are not public, too many, or give no file in time or of that size.
        """
        found = sorted(addresses(payload))
        if not found:
            return payload
        if len(found) > MOST_FILES:
            raise NotFetched(f"{len(found)} addresses; at most {MOST_FILES} files are fetched")
        try:
            async with asyncio.timeout(SECONDS), self._places:
                return placed(payload, {address: await self._fetch(address) for address in found})
        except NotFetched:
            raise
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError, ValueError) as error:
            raise NotFetched(f"{found[0][:200]}: {type(error).__name__}") from error

    async def _fetch(self, address: str) -> Path:
        """The file at an address, after redirects."""
        for _ in range(MOST_REDIRECTS + 1):
            place = await self._follow(address)
            if isinstance(place, Path):
                return place
            address = place
        raise NotFetched(f"{address[:200]}: more than {MOST_REDIRECTS} redirects")

    async def _follow(self, address: str) -> Path | str:
        """The file at an address, or the address that it redirects to."""
        if self.uploads is None or self.uploads.held > self.most_held:
            raise NotFetched(f"{address[:200]}: no room for files here")
        url = httpx.URL(address)
        # Resolved once, and that machine is asked: a second answer of the name server might lead inside.
        transport = safehttpx.AsyncSecureTransport(await public_ip(url.host))
        plain = {"Accept-Encoding": "identity"}  # nothing that unpacks to more than was sent
        async with (
            httpx.AsyncClient(transport=transport, headers=plain) as client,
            client.stream("GET", url) as answer,
        ):
            if answer.has_redirect_location:
                return urljoin(str(url), answer.headers["location"])
            answer.raise_for_status()
            file = self.uploads.folder / uuid.uuid4().hex / (Path(url.path).name[-60:] or "file")
            file.parent.mkdir(parents=True)
            held = 0
            with file.open("wb") as out:
                async for part in answer.aiter_raw():
                    held += len(part)
                    self.uploads.held += len(part)
                    if held > self.most:
                        out.truncate(0)
                        raise NotFetched(f"{address[:200]}: more than {self.most:,} bytes")
                    out.write(part)
        return file


def is_address(value: Any) -> bool:
    """Whether Gradio would fetch it."""
    return isinstance(value, str) and value.startswith(("http://", "https://"))


def addresses(payload: Any, depth: int = 0) -> set[str]:
    """Every address in a payload where Gradio would look for a file.

    Raises:
        NotFetched: for a payload that is nested too deeply to be the page's.
    """
    if not isinstance(payload, (dict, list)):
        return set()
    if depth > DEEPEST:
        raise NotFetched(f"a payload nested more than {DEEPEST} deep")
    own = {payload["path"]} if isinstance(payload, dict) and is_address(payload.get("path")) else set()
    inside = payload.values() if isinstance(payload, dict) else payload
    return own.union(*(addresses(each, depth + 1) for each in inside))


def placed(payload: Any, files: dict[str, Path]) -> Any:
    """The payload with files in place of their addresses."""
    if isinstance(payload, list):
        return [placed(each, files) for each in payload]
    if not isinstance(payload, dict):
        return payload
    found = {key: placed(value, files) for key, value in payload.items()}
    if is_address(found.get("path")):
        found |= {"path": str(files[found["path"]]), "url": None}
    return found


async def public_ip(host: str) -> str:
    """An address of a host that anybody on the internet could ask.

    Raises:
        NotFetched: where it has none: one of this machine's, of a private or of a provider's own network.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None)
    except OSError as error:
        raise NotFetched(f"{host[:200]}: no such host") from error
    public = [str(each[0]) for *_, each in found if ipaddress.ip_address(each[0]).is_global]
    if not public:
        raise NotFetched(f"{host[:200]}: no public address")
    return public[0]
