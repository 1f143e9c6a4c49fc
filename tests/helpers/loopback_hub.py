"""A Hugging Face Hub on loopback, as far as models, data sets and Spaces are made, uploaded, listed, fetched.

The real `huggingface_hub` client talks to it through its endpoint. Repositories keep every commit; weights
lie in large file storage with a published sha256, other files have git's hash. `faults` break single answers.
"""

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".bin", ".png")
TOKEN = "hf_loopbackOwnerTokenAbCdEfGhIjKlMnOpQr"


@dataclass
class Repo:
    """Commits by id, branches and tags by name; `files` of a commit are {path: bytes}."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], branch: str = "main", gone: Collection[str] = ()) -> str:
        """Add files to a branch and take others away; returns the commit."""
        parent = self.refs.get(branch, "")
        state = {
            path: data for path, data in self.commits.get(parent, {}).items() if path not in gone
        } | files
        text = parent + str(len(self.commits)) + "".join(state)
        sha = hashlib.sha1(text.encode()).hexdigest()
        self.commits[sha] = state
        self.refs[branch] = sha
        return sha

    def resolve(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.refs.get(revision)


@dataclass
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0  # seconds between two bytes of the body


def in_json(value, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


def error(status: int, code: str = "") -> Answer:
    return Answer(status, b"{}", {"X-Error-Code": code} if code else {})


@lru_cache(64)
def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@lru_cache(64)
def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class LoopbackHub:
    """The server. `requests` records (method, path); a fault may change or withhold an answer.

    Attributes:
        faults: functions of (method, path, answer) that return another answer, "drop" to close the
            connection halfway, "lose" to close it before any answer, or None to leave it. They are asked
            in turn; the first that returns something wins.
        paid_sdks: kinds of Space that this account would have to pay for.
        wishes: what was asked for when repositories were created.
    """

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.faults: list[Callable] = []
        self.paid_sdks: set[str] = set()
        self.wishes: list[dict] = []
        self.lock = threading.RLock()
        self.endpoint = ""

    # what tests do

    def add(self, repo_id: str, files: Path | dict[str, bytes], kind: str = "models", **options) -> Repo:
        """A repository with one commit; `files` may be a directory."""
        if isinstance(files, Path):
            files = {p.relative_to(files).as_posix(): p.read_bytes() for p in files.rglob("*") if p.is_file()}
        repo = self.repos.setdefault((kind, repo_id), Repo(**options))
        repo.commit(files)
        return repo

    def repo(self, repo_id: str, kind: str = "models") -> Repo:
        return self.repos[kind, repo_id]

    def files(self, repo_id: str, kind: str = "models") -> dict[str, bytes]:
        """The files at the head of a repository's main branch."""
        repo = self.repo(repo_id, kind)
        return repo.commits[repo.refs["main"]]

    def downloads(self) -> list[str]:
        """File names asked for, in order."""
        return [path.rsplit("/", 1)[1] for _, path in self.requests if "/resolve/" in path]

    # what a Hub does

    def answer(self, method: str, path: str, query: dict, body: bytes, headers) -> Answer:
        routes = [
            (r"/api/repos/create", self.create),
            (r"/api/validate-yaml", lambda *_: in_json({"errors": [], "warnings": []})),
            (r"/api/(models|spaces|datasets)/([^/]+/[^/]+)/preupload/(.+)", self.preupload),
            (r"/api/(models|spaces|datasets)/([^/]+/[^/]+)/commit/(.+)", self.take_commit),
            (r"/api/(models|spaces|datasets)/([^/]+/[^/]+)/(?:branch|tag)/(.+)", self.make_ref),
            (r"/api/(models|spaces|datasets)/([^/]+/[^/]+)/tree/([^/]+)", self.tree),
            (r"/api/(models|spaces|datasets)/([^/]+/[^/]+)(?:/revision/(.+))?", self.info),
            (r"/(?:(spaces|datasets)/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", self.batch),
            (r"/large/(\w{64})", self.take_large),
            (r"/(?:(spaces|datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.resolve),
        ]
        request = {"method": method, "query": query, "body": body, "owner": self.is_owner(headers)}
        for pattern, route in routes:
            found = re.fullmatch(pattern, path)
            if found:
                with self.lock:
                    return route(request, *found.groups())
        return error(404)

    def is_owner(self, headers) -> bool:
        return headers.get("Authorization") == f"Bearer {TOKEN}"

    def visible(self, request: dict, kind: str | None, repo_id: str) -> Repo | None:
        repo = self.repos.get((kind or "models", repo_id))
        return repo if repo and (request["owner"] or not repo.private) else None

    def create(self, request: dict) -> Answer:
        wish = json.loads(request["body"])
        if not request["owner"]:
            return error(401)
        if wish.get("sdk") in self.paid_sdks:
            return error(402)
        self.wishes.append(wish)
        kind = wish.get("type", "model") + "s"
        repo_id = f"{wish['organization']}/{wish['name']}"
        url = f"{self.endpoint}/{'spaces/' if kind == 'spaces' else ''}{repo_id}"
        if (kind, repo_id) in self.repos:
            return in_json({"url": url, "error": "You already created this repo"}, 409)
        private = wish.get("visibility") == "private" or bool(wish.get("private"))
        repo = self.repos[kind, repo_id] = Repo(private=private)
        repo.commit({".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})
        return in_json({"url": url})

    def preupload(self, request: dict, kind: str, repo_id: str, revision: str) -> Answer:
        repo = self.visible(request, kind, repo_id)
        if repo is None or not request["owner"]:
            return error(401, "RepoNotFound")
        files, state = [], repo.commits[repo.resolve(revision)]
        for wish in json.loads(request["body"])["files"]:
            path = wish["path"]
            is_large = path.endswith(LARGE)
            oid = state.get(path) and (sha256 if is_large else git_hash)(state[path])
            mode = "lfs" if is_large else "regular"
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return in_json({"files": files})

    def batch(self, request: dict, kind: str | None, repo_id: str) -> Answer:
        if not request["owner"]:
            return error(401)
        objects = []
        for wish in json.loads(request["body"])["objects"]:
            upload = {"upload": {"href": f"{self.endpoint}/large/{wish['oid']}"}}
            known = {} if wish["oid"] in self.large else {"actions": upload}
            objects.append({"oid": wish["oid"], "size": wish["size"]} | known)
        return in_json({"transfer": "basic", "objects": objects})

    def take_large(self, request: dict, oid: str) -> Answer:
        if sha256(request["body"]) != oid:
            return error(400)
        self.large[oid] = request["body"]
        return Answer()

    def take_commit(self, request: dict, kind: str, repo_id: str, revision: str) -> Answer:
        repo = self.visible(request, kind, repo_id)
        if repo is None or not request["owner"]:
            return error(401, "RepoNotFound")
        files, gone = {}, []
        for line in request["body"].splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header" and value.get("parentCommit") not in (None, repo.refs["main"]):
                return error(412)
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            if item["key"] == "lfsFile":
                files[value["path"]] = self.large[value["oid"]]
            if item["key"] == "deletedFile":
                gone.append(value["path"])
        sha = repo.commit(files, gone=gone)
        url = f"{self.endpoint}/{repo_id}/commit/{sha}"
        return in_json({"commitUrl": url, "commitOid": sha})

    def make_ref(self, request: dict, kind: str, repo_id: str, name: str) -> Answer:
        repo = self.visible(request, kind, repo_id)
        if repo is None or not request["owner"]:
            return error(401, "RepoNotFound")
        wish = json.loads(request["body"] or b"{}")
        repo.refs[wish.get("tag", name)] = repo.resolve(wish.get("startingPoint", "main"))
        return in_json({})

    def entries(self, repo: Repo, sha: str) -> list[dict]:
        listed = []
        for path, data in repo.commits[sha].items():
            large = {"sha256": sha256(data), "size": len(data), "pointerSize": 130}
            entry = {"rfilename": path, "size": len(data), "blobId": git_hash(data)}
            listed.append(entry | ({"lfs": large} if path.endswith(LARGE) else {}))
        return listed

    def info(self, request: dict, kind: str, repo_id: str, revision: str | None) -> Answer:
        repo = self.visible(request, kind, repo_id)
        if repo is None:
            return error(401, "RepoNotFound")
        sha = repo.resolve(revision or "main")
        if sha is None:
            return error(404, "RevisionNotFound")
        about = {"id": repo_id, "sha": sha, "private": repo.private, "gated": repo.gated}
        return in_json(about | {"siblings": self.entries(repo, sha), "tags": []})

    def tree(self, request: dict, kind: str, repo_id: str, revision: str) -> Answer:
        repo = self.visible(request, kind, repo_id)
        sha = repo and repo.resolve(revision)
        if not sha:
            return error(404, "RevisionNotFound" if repo else "RepoNotFound")
        return in_json(
            [
                {"type": "file", "path": e["rfilename"], "size": e["size"], "oid": e["blobId"]}
                for e in self.entries(repo, sha)
            ]
        )

    def resolve(self, request: dict, kind: str | None, repo_id: str, revision: str, path: str) -> Answer:
        repo = self.visible(request, kind, repo_id)
        if repo is None:
            return error(401, "RepoNotFound")
        if repo.gated and not request["owner"]:
            return error(401, "GatedRepo")
        sha = repo.resolve(revision)
        if sha is None:
            return error(404, "RevisionNotFound")
        data = repo.commits[sha].get(path)
        if data is None:
            return Answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})
        etag = sha256(data) if path.endswith(LARGE) else git_hash(data)
        return Answer(200, data, {"X-Repo-Commit": sha, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a short body waits 40 ms until its headers are acknowledged
    hub: LoopbackHub

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append((self.command, path))
        answer = self.hub.answer(self.command, path, parse_qs(url.query), body, self.headers)
        wishes = (fault(self.command, path, answer) for fault in list(self.hub.faults))
        changed = next((wish for wish in wishes if wish is not None), answer)
        if changed == "lose":
            self.close_connection = True
            return
        self.send(answer if changed == "drop" else changed, cut=changed == "drop")

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def send(self, answer: Answer, cut: bool) -> None:
        data, status, headers = answer.body, answer.status, dict(answer.headers)
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if found and status == 200:
            start = int(found.group(1))
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            data, status = data[start:], 206
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if cut:
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            self.close_connection = True
            return
        for piece in (data[i : i + 1] for i in range(len(data))) if answer.pause else (data,):
            self.wfile.write(piece)
            self.wfile.flush()
            time.sleep(answer.pause)

    def log_message(self, *args) -> None:
        pass


def serve(hub: LoopbackHub) -> ThreadingHTTPServer:
    """Start answering on a free port; the caller shuts it down."""
    handler = type("BoundHandler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    often = {"poll_interval": 0.01}  # shutdown waits for the next look
    threading.Thread(target=server.serve_forever, kwargs=often, daemon=True).start()
    return server


def point_client_to(endpoint: str, monkeypatch) -> None:
    """Make huggingface_hub, in this process, talk to `endpoint` as if HF_ENDPOINT had named it."""
    from huggingface_hub import constants

    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # Xet speaks to other servers


# Faults


def once(fault: Callable) -> Callable:
    """A fault that strikes a single time."""
    struck = []

    def first(method: str, path: str, answer: Answer):
        wish = None if struck else fault(method, path, answer)
        struck.extend([True] if wish is not None else [])
        return wish

    return first


def on(file: str, change: Callable[[Answer], object], methods: tuple[str, ...] = ("GET",)) -> Callable:
    """A fault on the answers about one file."""
    return lambda method, path, answer: (
        change(answer) if path.endswith("/" + file) and method in methods and answer.status < 300 else None
    )


def status(code: int) -> Callable:
    """Every answer is this status."""
    return lambda method, path, answer: error(code)


def with_body(change: Callable[[bytes], bytes]) -> Callable[[Answer], Answer]:
    """Another body of the right or wrong size, under the old headers."""
    return lambda answer: Answer(answer.status, change(answer.body), answer.headers)


def slow(seconds: float) -> Callable[[Answer], None]:
    """A pause before the answer."""
    return lambda answer: time.sleep(seconds)


def dripping(seconds: float, repo_id: str = "") -> Callable:
    """Answers about a repository come byte by byte."""
    return lambda method, path, answer: (
        Answer(answer.status, answer.body, answer.headers, seconds) if repo_id in path else None
    )


def flip_a_byte(data: bytes) -> bytes:
    """The same size, one byte of the last tensor changed."""
    return data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]
