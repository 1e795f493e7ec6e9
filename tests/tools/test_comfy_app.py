"""What the demo does around the server: mounting packs, keeping files, passing on a refusal."""

import json

import yaml

from animatediff_native.tools.comfy_app import keep
from animatediff_native.tools.comfy_server import ComfyServer, mount, refusal, unmount


def test_a_clip_never_replaces_an_earlier_one(tmp_path):
    for content in (b"1", b"2", b"3"):
        (tmp_path / "clip.webp").write_bytes(content)
        keep(tmp_path / "clip.webp", tmp_path / "output")
    contents = {file.name: file.read_bytes() for file in (tmp_path / "output").iterdir()}
    assert contents == {"clip.webp": b"1", "clip-2.webp": b"2", "clip-3.webp": b"3"}


def test_unmounting_leaves_the_pack_as_it_is(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(name)
    mounted = tmp_path / "mounted"
    for name in ("old", "new"):
        mount(tmp_path / name, mounted)
        assert (mounted / "__init__.py").read_text() == name
    unmount(mounted)
    assert not mounted.exists()
    assert (tmp_path / "new" / "__init__.py").read_text() == "new"


def test_folders_with_odd_names_reach_comfyui(tmp_path):
    """extra_model_paths.yaml is where quotes, colons and spaces of a path would get lost."""
    folder = tmp_path / "it's a model folder, [new] #1"
    ComfyServer(tmp_path / "ComfyUI", tmp_path / "base", models={"checkpoints": folder}).command()
    written = yaml.safe_load((tmp_path / "base" / "extra_model_paths.yaml").read_text(encoding="utf-8"))
    assert written == {"models": {"checkpoints": str(folder.resolve())}}


def test_a_refusal_names_the_node_and_the_reason():
    errors = [{"message": "Value not in list", "details": "file: 'a' not in []"}]
    answer = {"error": {"message": "Invalid"}, "node_errors": {"3": {"class_type": "Load", "errors": errors}}}
    assert refusal(json.dumps(answer).encode()).splitlines() == [
        "Invalid",
        "Load (node 3): Value not in list: file: 'a' not in []",
    ]
    assert refusal(b"<html>502</html>") == "<html>502</html>"
