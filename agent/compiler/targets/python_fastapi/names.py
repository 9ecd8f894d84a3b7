"""Identifiers of the target: every name of a document becomes one that Python, PostgreSQL and a file system take.

Names of documents are hostile until they went through here.
"""

import builtins
import hashlib
import keyword
import re
import unicodedata
from collections.abc import Iterable

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*|[a-z][a-z0-9]*|[0-9]+")
LENGTH_MAX = 40  # of a snake-case name; constraints join two and stay below PostgreSQL's 63 bytes
KEYWORDS = frozenset({*keyword.kwlist, *keyword.softkwlist})
PYTHON_WORDS = frozenset({*keyword.kwlist, *keyword.softkwlist, *(n for n in dir(builtins) if n[0].islower())})
# Methods of SQLAlchemy's collection of columns, and PostgreSQL's system columns: `table.c.keys` is not a column.
COLUMN_WORDS = frozenset(
    [
        "add",
        "as_readonly",
        "as_mutable",
        "clear",
        "compare",
        "contains_column",
        "corresponding_column",
        "extend",
        "get",
        "index",
        "items",
        "keys",
        "pop",
        "popitem",
        "remove",
        "setdefault",
        "sort",
        "update",
        "values",
        "tableoid",
        "xmin",
        "cmin",
        "xmax",
        "cmax",
        "ctid",
        "oid",
        "columns",
        "backwright_identity",
        "backwright_parent",
        "backwright_keys",
        "key_0",
    ]
)
TABLE_WORDS = frozenset({"alembic_version", "metadata", "table", "column", "index"})


def snake(text: str) -> str:
    """`petTypeId` and `pet-type id` become `pet_type_id`; what has no letter becomes `x`. May be a keyword."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    words = "_".join(word.lower() for word in _WORD.findall(plain)) or "x"
    if words[0].isdigit():
        words = f"x_{words}"
    if len(words) > LENGTH_MAX:
        words = f"{words[: LENGTH_MAX - 7].rstrip('_')}_{digest(text)}"
    return words


def digest(text: str) -> str:
    """Six hexadecimal digits that stand for a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:6]


class Names:
    """Gives every text a name that is unique in its scope and on no list; the same texts in the same order, the same."""

    def __init__(self, *forbidden: Iterable[str], words: Iterable[str] = PYTHON_WORDS) -> None:
        self._taken = {word for group in forbidden for word in group}
        self._words = frozenset(words)

    def give(self, text: str) -> str:
        """A snake-case name."""
        return self.keep(snake(text))

    def keep(self, name: str) -> str:
        """`name`, or `name_2`, `name_3`… if it is taken. A forbidden word gets an underscore."""
        found, number = name, 1
        if found in self._words:
            found = name = f"{name}_"
        while found in self._taken:
            number += 1
            found = f"{name.rstrip('_')}_{number}"
        self._taken.add(found)
        return found


def limited(name: str, length: int = 60) -> str:
    """A name of a constraint or index, cut with a digest where PostgreSQL would cut it (63 bytes)."""
    return name if len(name) <= length else f"{name[: length - 7]}_{digest(name)}"
