"""The browser of the tests and of the example workflows: any of Chromium's family.

Standard library only: this runs before anything is installed.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys

ON_PATH = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")
ON_MAC = ("Google Chrome", "Chromium", "Microsoft Edge")


def find_chromium() -> str | None:
    """Return the path of a Chromium-based browser on this machine, or None."""
    on_path = filter(None, map(shutil.which, ON_PATH))
    on_mac = (f"/Applications/{name}.app/Contents/MacOS/{name}" for name in ON_MAC)
    return next((path for path in (*on_path, *on_mac) if os.path.exists(path)), None)


def install_chromium() -> None:
    """Install Chromium where the user may install packages. Without it, the browser tests are skipped."""
    may = platform.system() == "Linux" and shutil.which("apt-get") and os.geteuid() == 0
    if find_chromium() is not None or not may:
        return
    print("Installing Chromium for the tests in the browser ...", file=sys.stderr, flush=True)
    for command in (["update"], ["install", "--yes", "--no-install-recommends", "chromium"]):
        if subprocess.run(["apt-get", *command], capture_output=True).returncode != 0:
            print("That did not work: the tests in the browser will be skipped.", file=sys.stderr)
            return
