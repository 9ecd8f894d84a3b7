"""`tests/README.md` says which test holds which promise: every name in it leads to one, and every row has one."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.chaos.checkers import CHECKERS

TESTS = Path(__file__).resolve().parents[1]
NAME = re.compile(r"`([\w/]+\.py)::(\w+)`")
MOST_ROWS = 60  # more, and nobody reads it


def promises() -> list[tuple[str, str]]:
    """(promise, what holds it) for each row of the tables below the heading."""
    text = (TESTS / "README.md").read_text(encoding="utf-8").partition("## What is promised")[2]
    rows = re.findall(r"^\| (.+) \| (.+) \|$", text, re.MULTILINE)
    return [(promise, held_by) for promise, held_by in rows if (promise, held_by) != ("promise", "held by")]


def named() -> list[tuple[str, str]]:
    """(file, function) for every name in the document, in its tables or beside them."""
    return NAME.findall((TESTS / "README.md").read_text(encoding="utf-8"))


@cache
def functions(file: str) -> frozenset[str]:
    """What a module defines, read and not imported; empty where there is no such file."""
    path = TESTS / file
    if not path.is_file():
        return frozenset()
    defined = ast.parse(path.read_text(encoding="utf-8")).body
    return frozenset(node.name for node in defined if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize(("file", "name"), named(), ids=lambda value: value)
def test_a_name_leads_to_a_test_or_a_checker(file: str, name: str) -> None:
    """A test that was renamed or dropped must not go on being promised."""
    assert name in functions(file), f"tests/{file} defines no {name}"
    is_collected = Path(file).name.startswith("test_") and name.startswith("test_")
    assert is_collected or (file == "chaos/checkers.py" and name in CHECKERS), "nothing runs this"


def test_every_promise_is_held_by_something() -> None:
    """A row without a name would be a wish; a table that cannot be read holds nothing."""
    rows = promises()

    assert 40 <= len(rows) <= MOST_ROWS
    assert [promise for promise, held_by in rows if not NAME.search(held_by)] == []
    assert len({promise for promise, _ in rows}) == len(rows)


def test_every_backquoted_name_in_the_table_is_read() -> None:
    """`file.py::name` in a form that the pattern misses would be checked by nobody."""
    text = (TESTS / "README.md").read_text(encoding="utf-8")

    assert text.count("::") == len(named())
