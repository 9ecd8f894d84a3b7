"""Regular expressions of documents (ECMA 262) in Python: can one be compiled, and may we run it at all?

A pattern comes from a stranger and Python's engine backtracks: a nested repetition may take forever on thirty
characters. Only patterns without a repetition inside a long repetition are ever run here; others count as unknown.
"""

import re
from functools import lru_cache
from importlib import import_module
from typing import Any

# Undocumented and untyped, but the standard library's only way to look inside a pattern (3.11 to 3.13: same names).
sre: Any = import_module("re._constants")
parser: Any = import_module("re._parser")

_PROPERTY = re.compile(r"\\p\{(\w+)\}|\\p(L|N)")
_NAMED = re.compile(r"\(\?<(?=[A-Za-z])")
# Inside a character class only what needs no brackets of its own can stand.
_CLASSES = {
    "L": "A-Za-zªµºÀ-ÖØ-öø-ʯͰ-ͽΆ-ϿЀ-ԯ一-鿿",
    "Letter": "A-Za-zªµºÀ-ÖØ-öø-ʯͰ-ͽΆ-ϿЀ-ԯ一-鿿",
    "Lu": "A-ZÀ-ÖØ-Þ",
    "Ll": "a-zß-öø-ÿ",
    "N": "0-9",
    "Nd": "0-9",
    "P": "!-/:-@\\[-`{-~",
    "S": "$+<=>^`|~",
    "Z": " ",
    "Zs": " ",
    "M": "\u0300-\u036f",
}
_LONG_REPEAT = 24  # above this many rounds, a repetition inside a repetition may take too long
_LARGE_REPEAT = 5_000  # the services' engine (Rust) refuses automata beyond 10 MB


@lru_cache(maxsize=1024)
def compile_pattern(pattern: str) -> re.Pattern[str] | None:
    """The pattern in Python's dialect; None if it cannot be expressed (then nobody should rely on it)."""
    if "[^]" in pattern or re.search(r"\[[^\]]*\\[wds]-[^\]]", pattern):
        return None  # ECMA allows them; the services' validator does not
    try:
        return re.compile(translate(pattern))
    except (re.error, RecursionError, OverflowError):
        return None


def translate(pattern: str) -> str:
    """Rewrite what differs between ECMA 262 and Python: Unicode properties, named groups, `$`, ASCII classes."""
    text = _PROPERTY.sub(lambda found: _property(found, pattern), pattern)
    text = _NAMED.sub("(?P<", text)
    return f"(?a:{_end_anchor(text)})"


def is_harmless(pattern: str) -> bool:
    """Whether matching a text of a few hundred characters surely ends soon."""
    compiled = compile_pattern(pattern)
    if compiled is None:
        return False
    return _harmless(parser.parse(compiled.pattern), inside=False)


def has_large_repeat(pattern: str) -> bool:
    """Whether a counted repetition is so large that the services' engine may refuse it."""
    return any(
        int(number) > _LARGE_REPEAT for number in re.findall(r"\{(?:\d+,)?(\d+)\}", pattern) if len(number) < 30
    ) or bool(re.search(r"\d{30}", pattern))


def matches(pattern: str, text: str) -> bool | None:
    """Whether `text` matches somewhere (JSON Schema's meaning); None: not to be decided here."""
    if len(text) > 2_000 or not is_harmless(pattern):
        return None
    compiled = compile_pattern(pattern)
    return None if compiled is None else compiled.search(text) is not None


def _property(found: re.Match[str], pattern: str) -> str:
    name = found.group(1) or found.group(2)
    characters = _CLASSES.get(name)
    if characters is None:
        return found.group()  # Python refuses it, and so do we
    before = pattern[: found.start()]
    inside = before.rfind("[") > before.rfind("]") and not before.endswith("\\[")
    return characters if inside else f"[{characters}]"


def _end_anchor(pattern: str) -> str:
    # Python's `$` also matches before a final newline.
    out: list[str] = []
    escaped = in_class = False
    for character in pattern:
        out.append(r"\Z" if character == "$" and not escaped and not in_class else character)
        if not escaped and character in "[]":
            in_class = character == "["
        escaped = character == "\\" and not escaped
    return "".join(out)


def _harmless(tree: Any, *, inside: bool) -> bool:
    return all(_harmless_node(operator, argument, inside=inside) for operator, argument in tree)


def _harmless_node(operator: Any, argument: Any, *, inside: bool) -> bool:
    if operator in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
        low, high, body = argument
        if inside and high != low:
            return False
        return _harmless(body, inside=inside or high > _LONG_REPEAT)
    if operator is sre.BRANCH:
        return not inside and all(_harmless(branch, inside=inside) for branch in argument[1])
    if operator is sre.SUBPATTERN:
        return _harmless(argument[3], inside=inside)
    if operator in (sre.ASSERT, sre.ASSERT_NOT):
        return _harmless(argument[1], inside=inside)
    if operator is sre.ATOMIC_GROUP:
        return _harmless(argument, inside=inside)
    return operator not in (sre.GROUPREF, sre.GROUPREF_EXISTS)
