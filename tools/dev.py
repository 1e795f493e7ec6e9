#!/usr/bin/env python3
"""One entry for people who try the pack or work on it.

    python tools/dev.py demo       render the example workflow in a real ComfyUI
    python tools/dev.py serve      open ComfyUI in the browser with the pack and the demo models
    python tools/dev.py test       run the tests
    python tools/dev.py lint       run ruff and pyright
    python tools/dev.py bench      measure speed and memory
    python tools/dev.py run -- COMMAND
                                   run any command with ComfyUI importable
    python tools/dev.py setup      only prepare, and print where things are

The first call installs PyTorch, ComfyUI and the development tools into a per-user cache directory
(the variable ADN_CACHE_DIR chooses another one); later calls, from any clone with the same pins, reuse it.
Nothing is written into the repository. Needs Python 3.10 or newer and a network connection for the first call.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036 - whoever runs this may have an older one
    sys.exit("Python 3.10 or newer is needed; this is {}.{}.".format(*sys.version_info))

from chromium import install_chromium
from environment import REPO, Environment, find_uv, prepare
from environment.cache import SetupError, cache_directory, disk_is_full, is_disk_full, say
from environment.downloads import COMFYUI_DEFAULT, COMFYUI_RELEASES, fetch_newest_frontend

NOTHING_SELECTED = 5  # pytest's exit status where no test is left to run


def demo(options: argparse.Namespace, _: list[str]) -> int:
    environment = prepare(options.comfyui)
    folders = ["--workflow", str(options.workflow.resolve()), "--output", str(options.output.resolve())]
    return execute(environment, [*module(environment, "tools.comfy_app"), "render", *folders])


def serve(options: argparse.Namespace, _: list[str]) -> int:
    environment = prepare(options.comfyui)
    wishes = ["--base", str(cache_directory() / "serve"), "--port", str(options.port)]
    if options.no_browser:
        wishes.append("--no-browser")
    return execute(environment, [*module(environment, "tools.comfy_app"), "serve", *wishes])


def test(options: argparse.Namespace, pytest_arguments: list[str]) -> int:
    install_chromium()
    if options.comfyui in ("all", COMFYUI_DEFAULT):  # the ComfyUI whose page is tested
        try:
            fetch_newest_frontend(find_uv())
        except SetupError as error:  # its tests say that they are skipped
            say(str(error))
    if options.comfyui == "all":
        newest, *older = COMFYUI_RELEASES
        results = {newest: run_pytest(newest, pytest_arguments)}
        codes = {version: run_pytest(version, ["-m", "not one_version", *pytest_arguments]) for version in older}
        results |= {version: 0 if code == NOTHING_SELECTED else code for version, code in codes.items()}
    else:
        results = {options.comfyui: run_pytest(options.comfyui, pytest_arguments)}
    if len(results) > 1:
        say("\n" + "\n".join(f"ComfyUI {v}: {'failed' if code else 'passed'}" for v, code in results.items()))
    return next((code for code in results.values() if code), 0)


def run_pytest(comfyui: str, arguments: list[str]) -> int:
    environment = prepare(comfyui)
    say(f"Testing on ComfyUI {comfyui}")
    # -P: with the repository's root on sys.path its nodes/ would hide ComfyUI's nodes.py.
    pytest = [environment.python, "-P", "-m", "pytest", "-o", f"cache_dir={cache_directory() / 'pytest'}"]
    return execute(environment, [*pytest, *arguments], cwd=REPO)


def lint(options: argparse.Namespace, _: list[str]) -> int:
    environment = prepare(options.comfyui)
    checks = (["ruff", "check"], ["ruff", "format", "--check"], ["pyright"])
    return max([execute(environment, check, cwd=REPO) for check in checks])


def bench(options: argparse.Namespace, arguments: list[str]) -> int:
    environment = prepare(options.comfyui)
    return execute(environment, [*module(environment, f"benchmarks.{options.name}"), *arguments])


def run(options: argparse.Namespace, command: list[str]) -> int:
    if not command:
        raise SetupError("Say which command to run, as in: python tools/dev.py run -- python -c 'import comfy.sd'")
    return execute(prepare(options.comfyui), command)


def setup(options: argparse.Namespace, _: list[str]) -> int:
    environment = prepare(options.comfyui)
    print(f"Python:  {environment.python}\nComfyUI: {environment.comfyui}\nCache:   {cache_directory()}")
    return 0


def module(environment: Environment, name: str) -> list[str | Path]:
    """Return the command that runs a module of the pack."""
    return [environment.python, "-m", f"animatediff_native.{name}"]


def execute(environment: Environment, command: Sequence[str | Path], cwd: Path | None = None) -> int:
    """Run a command in the environment to its end and return its exit status."""
    variables = environment.variables()
    words = [str(word) for word in command]
    # Windows looks programs up in this process's PATH, not in the one that the command is given.
    words[0] = shutil.which(words[0], path=variables["PATH"]) or words[0]
    try:
        process = subprocess.Popen(words, env=variables, cwd=cwd)
    except OSError as error:
        raise SetupError(f"Could not start {command[0]}: {error.strerror}.") from error
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # Ctrl-C reached the command too: let it clean up and end


def arguments_parser() -> argparse.ArgumentParser:
    description, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="dev.py",
        description=description,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(action, help: str, more: str = "", **comfyui) -> argparse.ArgumentParser:
        command = commands.add_parser(action.__name__, help=help, description=help + more, allow_abbrev=False)
        versions = ", ".join(COMFYUI_RELEASES)
        which = f"a version ({versions}) or the path of your own ComfyUI; default {COMFYUI_DEFAULT}"
        command.add_argument("--comfyui", metavar="WHICH", default=COMFYUI_DEFAULT, help=comfyui.get("which", which))
        command.set_defaults(action=action)
        return command

    rendered = add(demo, "Render the example workflow in a real ComfyUI and write an animated WebP and an MP4.")
    rendered.add_argument("--output", type=Path, default=Path("output"), help="folder for the files; default output/")
    workflow = REPO / "workflows" / "text_to_animation.json"
    rendered.add_argument("--workflow", type=Path, default=workflow, help="another workflow saved from ComfyUI")

    served = add(serve, "Open ComfyUI in the browser with the pack and the demo models.")
    served.add_argument("--port", type=int, default=8188, help="default 8188, or a free one where that is taken")
    served.add_argument("--no-browser", action="store_true", help="only print the address")

    every = f"a version ({', '.join(COMFYUI_RELEASES)}), `all` of them, or the path of your own ComfyUI"
    add(test, "Run the tests.", " Every other argument goes to pytest.", which=f"{every}; default {COMFYUI_DEFAULT}")
    add(lint, "Run ruff and pyright over the sources.")
    measured = add(bench, "Measure speed and memory.", " Every other argument goes to the benchmark.")
    names = sorted(file.stem for file in (REPO / "benchmarks").glob("[!_]*.py"))
    measured.add_argument("name", nargs="?", choices=names, default="benchmark", help="a file of benchmarks/")
    add(run, "Run a command with ComfyUI importable.", " Write it after `--`; `python` is the environment's.")
    add(setup, "Prepare everything and print where it is.")
    return parser


def main(words: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    parser = arguments_parser()
    own, passed_on = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    options, unknown = parser.parse_known_args(own)
    if (unknown or passed_on) and options.action not in (test, bench, run):
        parser.error(f"{options.command} does not take {' '.join(unknown + passed_on)}")
    try:
        return options.action(options, unknown + passed_on)
    except SetupError as error:
        say(f"\n{error}")
    except OSError as error:
        if not is_disk_full(error):
            raise
        say(f"\n{disk_is_full('finish the set-up')}")
    except KeyboardInterrupt:
        say("\nInterrupted; the next call takes up the set-up where it can.")
        return 130
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
