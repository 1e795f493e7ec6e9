"""Every regular expression of the pack reads any text in time that grows with its length, and no faster."""

from __future__ import annotations

import ast
import importlib
import re
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pytest

try:
    from re import _parser as sre_parse  # type: ignore[attr-defined]
except ImportError:  # Python 3.10
    import sre_parse

REPO = Path(__file__).parents[1]
FOLDERS = ("evaluation", "motion_models", "nodes", "old_workflows", "sampling", "training")
WRONG = ("", "\x00", "\n\x00")  # what ends a text, so that a pattern that reads to its end fails there
SHORT, LONG = 1000, 4000
SEARCHES = {"has": "search", "count": "findall"}  # functions of motion_models/formats.py that take a pattern
CATEGORIES = {"digit": "1", "space": " ", "word": "a", "not_digit": "x", "not_space": "x", "not_word": "-"}


class Use(NamedTuple):
    """A pattern and the method by which the pack applies it."""

    place: str
    pattern: re.Pattern[str]
    method: str


def uses() -> Iterator[Use]:
    """Find the compiled patterns of all modules, and those that are written as texts."""
    for file in sorted(chain.from_iterable((REPO / folder).rglob("*.py") for folder in FOLDERS)):
        source = file.read_text(encoding="utf-8")
        if not re.search(r"^import re$", source, re.MULTILINE):
            continue
        name = ".".join(file.relative_to(REPO).with_suffix("").parts)
        module = importlib.import_module(f"animatediff_native.{name}")
        tree = ast.parse(source)
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        methods = [function for function in calls if isinstance(function, ast.Attribute)]
        for attribute, value in vars(module).items():
            if isinstance(value, re.Pattern):
                called = {m.attr for m in methods if isinstance(m.value, ast.Name) and m.value.id == attribute}
                yield from (Use(f"{name}.{attribute}", value, method) for method in sorted(called or {"match"}))
        yield from (Use(f"{name}, line {line}", pattern, method) for line, pattern, method in literals(tree))


def literals(tree: ast.AST) -> Iterator[tuple[int, re.Pattern[str], str]]:
    """Find the patterns that stand where they are used; a name inside one, as in f"^{block}", is some word."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="re"), attr=method), args=[text, *_]):
                pass
            case ast.Call(func=ast.Attribute(attr=called) | ast.Name(id=called), args=[text]) if called in SEARCHES:
                method = SEARCHES[called]
            case ast.Tuple(elts=[ast.Constant(str(value)) as text, ast.Constant(str()), *_]) if "\\" in value:
                method = "search"
            case _:
                continue
        parts = text.values if isinstance(text, ast.JoinedStr) else [text]
        texts = [part.value if isinstance(part, ast.Constant) else "word" for part in parts]
        if method != "compile" and isinstance(text, ast.JoinedStr | ast.Constant):
            yield node.lineno, re.compile("".join(map(str, texts))), method


def one_of(class_: Any) -> str:
    """Return a character of a class such as `[^\\s"]`."""
    (kind, value), *rest = class_
    if str(kind) == "NEGATE":
        return next(c for c in 'x ",;:.-1a' if re.match(r"\w", c) or c not in str(rest))
    if str(kind) == "RANGE":
        return chr(value[0])
    return CATEGORIES[str(value).lower().removeprefix("category_")] if str(kind) == "CATEGORY" else chr(value)


def samples(parsed: Any) -> Iterator[tuple[str, str]]:
    """Yield every part of a parsed pattern as the shortest text that leads there, and a text that the part takes."""
    text = ""
    for kind, value in parsed:
        inner: list[Any] = []
        if str(kind) in ("LITERAL", "NOT_LITERAL"):
            taken = chr(value) if str(kind) == "LITERAL" else "x"
        elif str(kind) == "ANY":
            taken = "x"
        elif str(kind) == "IN":
            taken = one_of(value)
        elif str(kind) in ("MAX_REPEAT", "MIN_REPEAT"):
            inner, taken = [value[2]], shortest(value[2]) * max(1, value[0])
        elif str(kind) == "SUBPATTERN":
            inner, taken = [value[3]], shortest(value[3])
        elif str(kind) == "BRANCH":
            inner, taken = value[1], shortest(value[1][0])
        elif str(kind) == "GROUPREF_EXISTS":
            inner, taken = [value[1]], shortest(value[1])
        elif str(kind) in ("ASSERT", "ASSERT_NOT") and value[0] > 0:
            inner, taken = [value[1]], ""
        else:
            taken = ""
        for part in inner:
            yield from ((text + before, unit) for before, unit in samples(part))
        yield text, taken
        optional = str(kind) == "MAX_REPEAT" and value[0] == 0
        if optional:
            yield text + taken, taken
        text += "" if optional else taken


def shortest(parsed: Any) -> str:
    ends = [before + unit for before, unit in samples(parsed)]
    return ends[-1] if ends else ""


def seconds(use: Use, text: str) -> float:
    apply = getattr(use.pattern, use.method)
    arguments = ("", text) if use.method == "sub" else (text,)
    started = time.process_time()
    result = apply(*arguments)
    if use.method == "finditer":
        sum(1 for _ in result)
    return time.process_time() - started


USES = list(uses())


@pytest.mark.timeout(100)
@pytest.mark.parametrize("use", USES, ids=[f"{use.place} {use.method}" for use in USES])
def test_a_pattern_takes_time_linear_in_its_text(use):
    parts = set(samples(sre_parse.parse(use.pattern.pattern, use.pattern.flags)))
    units = {unit for _, unit in parts if unit} | {" ", "0", "a", '"', "\n"}
    for before in {before for before, _ in parts} | {""}:
        for unit in units:
            for end in WRONG:
                short, long = (before + unit * (n // len(unit)) + end for n in (SHORT, LONG))
                if seconds(use, long) > 8 * max(seconds(use, short), 2e-4):  # 16 where time grows with the square
                    ratios = [seconds(use, long) / max(seconds(use, short), 1e-5) for _ in range(5)]
                    assert min(ratios) < 8, f"{before!r} + {unit!r} * n + {end!r} takes {min(ratios):.1f} times as long"


def test_the_patterns_are_found():
    places = {use.place for use in USES}
    assert {"sampling.timeline.HEAD", "motion_models.formats.MOTION_KEY"} <= places
    texts = {use.pattern.pattern for use in USES if "line" in use.place}
    assert {"[:=]", r"^(input_blocks|down_blocks)\.", r"^word\.motion_modules\.(\d)", r"lightning_(\d)step"} <= texts


@pytest.mark.parametrize("pattern", [r"0 *[:]? *x", r"a*a*b"])
def test_a_pattern_that_reads_a_run_again_would_be_seen(pattern):
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test_a_pattern_takes_time_linear_in_its_text(Use("a bad one", re.compile(pattern), "match"))
