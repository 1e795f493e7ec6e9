"""A real ComfyUI in a process of its own.

    with ComfyServer(comfyui, base, packs={"animatediff-native": repo}) as server:
        prompt = workflow_to_prompt(workflow, server.object_info())  # workflow.py
        outputs = server.submit(prompt, on_progress=print)

Runs inside the environment of tools/dev.py, and the tests use it too.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import websocket

Progress = Callable[[str, int, int], None]  # (title of the node, step, steps)
START_TIMEOUT = 300  # seconds


class ServerError(Exception):
    """ComfyUI did not start, refused a prompt or failed on it; the message holds ComfyUI's own."""


@dataclass
class ComfyServer:
    """ComfyUI's `main.py` on a free local port, with a base directory of its own."""

    comfyui: Path
    base: Path
    packs: Mapping[str, Path] = field(default_factory=dict)
    """Folders of packs, wherever they are, by the names that they get in custom_nodes."""
    models: Mapping[str, Path] = field(default_factory=dict)
    """Folders to search besides the base directory's own, by the names of model folders, as in `checkpoints`."""
    inputs: Sequence[Path] = ()
    """Files that are copied into the input directory."""
    arguments: Sequence[str] = ("--cpu",)
    port: int = field(default_factory=lambda: free_port())

    def __post_init__(self):
        self.log = self.base / "comfyui.log"
        self.process: subprocess.Popen | None = None
        # A proxy for the internet must not be asked for this machine.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    @property
    def output(self) -> Path:
        return self.base / "output"

    def __enter__(self) -> ComfyServer:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def command(self) -> list[str]:
        """Lay out the base directory and return the command that starts ComfyUI on it."""
        for folder in ("custom_nodes", "input", "models", "output", "user"):
            (self.base / folder).mkdir(parents=True, exist_ok=True)
        for name, pack in self.packs.items():
            mount(pack, self.base / "custom_nodes" / name)
        for file in self.inputs:
            shutil.copy(file, self.base / "input")
        paths = self.base / "extra_model_paths.yaml"
        section = {name: str(folder.resolve()) for name, folder in self.models.items()}
        paths.write_text(json.dumps({"models": section}), encoding="utf-8")  # JSON is YAML, with safe quoting
        places = ["--base-directory", str(self.base), "--extra-model-paths-config", str(paths)]
        quiet = ["--disable-api-nodes", "--database-url", "sqlite:///:memory:"]
        main = [sys.executable, str(self.comfyui / "main.py"), "--port", str(self.port)]
        return [*main, *places, *quiet, *self.arguments]

    def start(self) -> None:
        command = self.command()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=self.base, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        end = time.monotonic() + START_TIMEOUT
        while not self._answers():
            self._check_running()
            if time.monotonic() > end:
                raise ServerError(f"ComfyUI did not answer within {START_TIMEOUT} seconds.\n{self.log_tail()}")
            time.sleep(0.2)

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def log_tail(self, lines: int = 30) -> str:
        """Return the end of ComfyUI's log, without colour codes."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()[-lines:])

    def object_info(self) -> dict[str, Any]:
        """Return ComfyUI's description of all nodes: inputs, types, defaults."""
        return self._request("/object_info")

    def submit(self, prompt: dict[str, Any], on_progress: Progress | None = None) -> dict[str, Any]:
        """Run a prompt in API format and return each output node's results, as in ComfyUI's history."""
        client = uuid.uuid4().hex
        address = f"ws://127.0.0.1:{self.port}/ws?clientId={client}"
        connection = websocket.create_connection(address, timeout=5, http_no_proxy=["127.0.0.1"])
        with contextlib.closing(connection):
            prompt_id = self._request("/prompt", {"prompt": prompt, "client_id": client})["prompt_id"]
            for kind, data in self._messages(connection, prompt_id):
                if kind == "progress" and on_progress:
                    on_progress(title(prompt, str(data["node"])), data["value"], data["max"])
                elif kind == "execution_error":
                    raise ServerError(f"{data['node_type']}: {data['exception_message'].strip()}")
                elif kind == "execution_interrupted":
                    raise ServerError("The run was interrupted.")
                elif kind == "executing" and data["node"] is None:
                    break
        return self._request(f"/history/{prompt_id}")[prompt_id]["outputs"]

    def output_files(self, outputs: dict[str, Any]) -> list[Path]:
        """Return the files that a run saved, in the order of its nodes."""
        results = (entry for node in outputs.values() for entries in node.values() for entry in entries)
        saved = (entry for entry in results if isinstance(entry, dict) and entry.get("type") == "output")
        return [self.output / entry["subfolder"] / entry["filename"] for entry in saved]

    def _messages(self, connection: websocket.WebSocket, prompt_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
        while True:
            try:
                message = connection.recv()
            except websocket.WebSocketTimeoutException:
                self._check_running()
                continue
            except (websocket.WebSocketException, OSError) as error:
                raise ServerError(f"ComfyUI hung up: {error}\n{self.log_tail()}") from error
            if isinstance(message, str) and message:  # bytes are preview pictures
                parsed = json.loads(message)
                if parsed["data"].get("prompt_id") == prompt_id:
                    yield parsed["type"], parsed["data"]

    def _check_running(self) -> None:
        if self.process is None or self.process.poll() is not None:
            raise ServerError(f"ComfyUI stopped.\n{self.log_tail()}")

    def _answers(self) -> bool:
        try:
            self._request("/system_stats")
        except (ServerError, OSError):
            return False
        return True

    def _request(self, path: str, body: Any = None) -> Any:
        """Return the answer to a GET, or with a body to a POST."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        try:
            with self._opener.open(request, timeout=60) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise ServerError(refusal(error.read())) from error


def refusal(body: bytes) -> str:
    """Return ComfyUI's reasons for refusing a prompt, one line each."""
    try:
        answer = json.loads(body)
        reasons = [answer["error"]["message"]]
        for node_id, node in answer.get("node_errors", {}).items():
            for error in node["errors"]:
                reasons.append(f"{node['class_type']} (node {node_id}): {error['message']}: {error['details']}")
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")
    return "\n".join(reasons)


def title(prompt: dict[str, Any], node_id: str) -> str:
    node = prompt.get(node_id.split(".")[0], {})
    return node.get("_meta", {}).get("title") or node.get("class_type", node_id)


def mount(pack: Path, target: Path) -> None:
    """Make `target` show the folder of a pack, replacing what an earlier mount left there."""
    unmount(target)
    pack = pack.resolve()
    try:
        target.symlink_to(pack, target_is_directory=True)
    except OSError:
        try:
            import _winapi  # a junction needs no special rights on Windows, a symbolic link does

            _winapi.CreateJunction(str(pack), str(target))  # type: ignore[attr-defined]
        except (ImportError, OSError):
            shutil.copytree(pack, target, ignore=shutil.ignore_patterns(".git", "__pycache__", "output"))


def unmount(target: Path) -> None:
    if target.is_symlink():
        target.unlink()
    elif target.exists():
        try:
            os.rmdir(target)  # takes a junction away and leaves the folder it points to
        except OSError:
            shutil.rmtree(target)


def free_port(wanted: int = 0) -> int:
    """Return `wanted` if that port is free, otherwise a port that the system chooses."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return free_port()
        return probe.getsockname()[1]


def device_arguments() -> list[str]:
    """Return the arguments that ComfyUI needs where there is no GPU."""
    import torch

    return [] if torch.cuda.is_available() or torch.backends.mps.is_available() else ["--cpu"]
