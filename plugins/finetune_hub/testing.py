"""A Hub on this machine, for tests: the endpoints that an upload calls, on loopback, in memory."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class LocalHub:
    """A Hub that runs as long as the process: it keeps what is pushed to it, and can fail on request.

    Before huggingface_hub is imported, ``HF_ENDPOINT`` must be its `url` and ``HF_HUB_DISABLE_XET`` be set.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.commits: list[list[str]] = []
        self.created: list[dict[str, Any]] = []
        self.refuse: str | None = None
        """Requests whose path contains this text are answered with status 500."""
        self.requests: list[str] = []
        self._blobs: dict[str, bytes] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def download(self, folder: Path) -> Path:
        """Write what was pushed into a folder, as `huggingface_hub.snapshot_download` would, and return it."""
        for name, data in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return folder

    def respond(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Return status and content of the response to a request."""
        self.requests.append(f"{method} {path}")
        if self.refuse and self.refuse in path:
            return 500, {"error": "out of order"}
        if path == "/api/whoami-v2":
            return 200, {"name": "skerrow", "type": "user", "orgs": [], "auth": {"accessToken": {"role": "write"}}}
        if path == "/api/repos/create":
            request = json.loads(body)
            self.created.append(request)
            owner = request.get("organization") or "skerrow"
            return 200, {"url": f"{self.url}/{owner}/{request['name'].split('/')[-1]}", "id": "1"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if "/preupload/" in path:
            return 200, {"files": [{**file, "uploadMode": _mode(file["path"]), "shouldIgnore": False}
                                   for file in json.loads(body)["files"]]}  # fmt: skip
        if path.endswith("/info/lfs/objects/batch"):
            return 200, self._batch(json.loads(body))
        if method == "PUT":
            self._blobs[path.rsplit("/", 1)[-1]] = body
            return 200, {}
        if "/commit/" in path:
            return 200, self._commit(body)
        if "/tree/" in path:
            return 200, [{"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
                         for name, data in self.files.items()]  # fmt: skip
        if path.startswith("/api/models/"):
            return 200, {"id": path.removeprefix("/api/models/").split("/revision")[0], "sha": "0" * 40,
                         "siblings": [{"rfilename": name} for name in self.files]}  # fmt: skip
        return 404, {"error": "not here"}

    def _batch(self, request: dict[str, Any]) -> dict[str, Any]:
        objects = []
        for item in request["objects"]:
            known = item["oid"] in self._blobs
            actions = {} if known else {"actions": {"upload": {"href": f"{self.url}/put/{item['oid']}"}}}
            objects.append({"oid": item["oid"], "size": item["size"], **actions})
        return {"transfer": "basic", "objects": objects}

    def _commit(self, body: bytes) -> dict[str, Any]:
        names = []
        for line in body.splitlines():
            if not line.strip():
                continue
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                self.files[value["path"]] = self._blobs[value["oid"]]
            else:
                continue
            names.append(value["path"])
        self.commits.append(names)
        return {"success": True, "commitOid": "1" * 40, "commitUrl": f"{self.url}/x/y/commit/{'1' * 40}"}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _reply(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                body = b"".join(self._chunks()) if self._chunked() else self.rfile.read(size)
                status, content = hub.respond(self.command, self.path.split("?")[0], body)
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                if status == 500:
                    self.send_header("X-Error-Message", content["error"])
                    self.send_header("X-Request-Id", "local")
                if status == 404:
                    self.send_header("X-Error-Code", "EntryNotFound")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def _chunked(self) -> bool:
                return self.headers.get("Transfer-Encoding", "").lower() == "chunked"

            def _chunks(self) -> Any:
                while size := int(self.rfile.readline().strip() or b"0", 16):
                    yield self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()

            do_GET = do_POST = do_PUT = do_HEAD = _reply  # noqa: N815, names of http.server

            def log_message(self, *args: Any) -> None:
                pass

        return Handler


def _mode(path: str) -> str:
    return "lfs" if path.endswith(".safetensors") else "regular"
