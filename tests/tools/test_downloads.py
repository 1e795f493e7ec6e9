"""The newest frontend is fetched once, by its version and hash."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from pathlib import Path

import pytest

from animatediff_native.tools.environment import downloads
from animatediff_native.tools.environment.cache import SetupError
from animatediff_native.tools.environment.downloads import fetch_newest_frontend, newest_frontend

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the uv here is a shell script")


@pytest.fixture
def wheel(tmp_path, monkeypatch) -> Path:
    """A package with one page, and a cache directory without it."""
    wheel = tmp_path / "frontend.whl"
    with zipfile.ZipFile(wheel, "w") as zipped:
        zipped.writestr("comfyui_frontend_package/static/index.html", "the page")
    monkeypatch.setenv("ADN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads, "FRONTEND_NEWEST", ("9.9", hashlib.sha256(wheel.read_bytes()).hexdigest()))
    return wheel


def uv_that_downloads(file: Path) -> str:
    """A uv that counts its calls and copies the file into the folder behind --dest."""
    uv = file.with_name("uv")
    uv.write_text(f"""#!/bin/sh
echo "$*" >> {uv}-calls
while [ "$1" != --dest ]; do shift; done
cp {file} "$2"
""")
    uv.chmod(0o755)
    return str(uv)


def test_it_is_unpacked_once_where_the_tests_look_for_it(wheel, tmp_path):
    uv = uv_that_downloads(wheel)
    for _ in range(2):
        fetch_newest_frontend(uv)
        assert (newest_frontend() / "index.html").read_text() == "the page"
    (call,) = (tmp_path / "uv-calls").read_text().splitlines()
    assert "--require-hashes" in call and "--no-deps" in call


def test_another_file_of_that_name_is_not_unpacked(wheel):
    uv = uv_that_downloads(wheel)
    wheel.write_bytes(wheel.read_bytes() + b"more")
    with pytest.raises(SetupError, match=r"frontend 9\.9 is not the expected one"):
        fetch_newest_frontend(uv)
    assert not newest_frontend().exists()
