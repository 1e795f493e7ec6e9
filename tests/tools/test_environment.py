"""The set-up of the shared environment, without a network."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import tomllib

from animatediff_native.tools import environment
from animatediff_native.tools.environment import development_packages, environment_key
from animatediff_native.tools.environment.cache import SetupError, build_once, explain_failure
from animatediff_native.tools.environment.downloads import extract, find_comfyui


def archive(file: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(file, "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file


def test_only_the_wanted_folder_of_an_archive_is_unpacked(tmp_path):
    members = {"p-1/vendor/ComfyUI/main.py": b"1", "p-1/vendor/ComfyUI/comfy/sd.py": b"2", "p-1/setup.py": b"3"}
    extract(archive(tmp_path / "a.tar.gz", members), "vendor/ComfyUI", tmp_path / "out")
    files = {str(f.relative_to(tmp_path / "out").as_posix()): f.read_bytes() for f in tmp_path.glob("out/**/*.py")}
    assert files == {"main.py": b"1", "comfy/sd.py": b"2"}


def test_a_path_that_leads_out_of_an_archive_is_refused(tmp_path):
    file = archive(tmp_path / "a.tar.gz", {"p-1/vendor/ComfyUI/../../../escaped.py": b"1"})
    with pytest.raises(SetupError, match="leads out of it"):
        extract(file, "vendor/ComfyUI", tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("escaped.py"))


def test_a_finished_folder_is_kept_and_an_unfinished_one_is_made_anew(tmp_path):
    folder, calls = tmp_path / "thing", []

    def interrupted(path: Path) -> None:
        path.mkdir()
        (path / "half").touch()
        raise KeyboardInterrupt

    def whole(path: Path) -> None:
        calls.append(path)
        path.mkdir()

    with pytest.raises(KeyboardInterrupt):
        build_once(folder, interrupted)
    for _ in range(2):
        assert build_once(folder, whole) == folder
    assert calls == [folder]
    assert not (folder / "half").exists()


def test_a_second_set_up_waits_for_the_first(tmp_path):
    script = """
import sys
from pathlib import Path
from animatediff_native.tools.environment.cache import build_once
def build(folder):
    folder.mkdir()
    print("built", flush=True)
    sys.stdin.readline()
build_once(Path(sys.argv[1]), build)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "thing")]
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    first = subprocess.Popen(command, cwd=tmp_path, text=True, stdin=subprocess.PIPE, **pipes)
    assert first.stdout and first.stdout.readline() == "built\n"
    second = subprocess.Popen(command, cwd=tmp_path, text=True, stdin=subprocess.DEVNULL, **pipes)
    assert second.stderr and second.stderr.readline().startswith("Waiting for another set-up")
    assert first.communicate("go on\n") == ("", "")
    assert second.communicate() == ("", ""), "it uses what the first built"
    assert (first.returncode, second.returncode) == (0, 0)


def test_the_environment_changes_with_its_pins(tmp_path):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("numpy")
    key = environment_key(["torch==2.11.0"], requirements, "")
    assert key == environment_key(["torch==2.11.0"], requirements, "")
    assert key != environment_key(["torch==2.12.0"], requirements, "")
    assert key != environment_key(["torch==2.11.0"], requirements, "cpu")
    requirements.write_text("numpy>=2")
    assert key != environment_key(["torch==2.11.0"], requirements, "")


def test_the_development_packages_are_those_of_pyproject_and_pinned():
    project = tomllib.loads((environment.REPO / "pyproject.toml").read_text(encoding="utf-8"))
    assert development_packages() == project["dependency-groups"]["dev"]
    assert all("==" in package for package in development_packages())


def test_a_folder_without_comfyui_is_refused_with_the_known_versions(tmp_path):
    with pytest.raises(SetupError, match=r"0\.30\.0.*nor a folder that holds ComfyUI"):
        find_comfyui(str(tmp_path), uv="uv")


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("error: dns error: failed to lookup address", "network connection"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("something else", "the lines above say why"),
    ],
)
def test_a_failed_step_is_explained(output, expected):
    assert expected in explain_failure("install it", output)
