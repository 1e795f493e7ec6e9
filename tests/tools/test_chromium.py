"""The browser: found under any of its names, installed where that is allowed."""

import sys

import pytest

from animatediff_native.tools import chromium
from animatediff_native.tools.chromium import find_chromium, install_chromium


@pytest.mark.skipif(sys.platform != "linux", reason="a program is found another way")
def test_a_browser_is_found_by_any_of_its_names(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_chromium() is None
    browser = tmp_path / "google-chrome"
    browser.write_text("#!/bin/sh\n")
    assert find_chromium() is None, "not a program"
    browser.chmod(0o755)
    assert find_chromium() == str(browser)


@pytest.mark.skipif(sys.platform != "linux", reason="packages are installed another way")
@pytest.mark.parametrize("succeeds", [True, False])
def test_a_browser_is_installed_by_who_may_and_only_if_it_is_missing(tmp_path, monkeypatch, capsys, succeeds):
    apt = tmp_path / "apt-get"
    apt.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\nexit {0 if succeeds else 1}\n')
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(chromium.os, "geteuid", lambda: 1000)
    install_chromium()
    assert not (tmp_path / "asked").exists(), "not the user's right"
    monkeypatch.setattr(chromium.os, "geteuid", lambda: 0)
    install_chromium()
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[0] == "update" and (asked[-1].endswith(" chromium") if succeeds else len(asked) == 1)
    output = capsys.readouterr()
    assert ("will be skipped" in output.out + output.err) is not succeeds
    (tmp_path / "chromium").write_text("")
    (tmp_path / "chromium").chmod(0o755)
    install_chromium()
    assert (tmp_path / "asked").read_text().splitlines() == asked
