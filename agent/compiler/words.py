"""Names as words: splitting, folding, singular and plural. Pure; English only, and said so in the report's alternatives."""

import re
from functools import lru_cache

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z]*|[a-z]+|[0-9]+")
_IRREGULAR = {
    "children": "child",
    "people": "person",
    "men": "man",
    "women": "woman",
    "indices": "index",
    "vertices": "vertex",
    "data": "datum",
    "criteria": "criterion",
    "media": "medium",
}


@lru_cache(maxsize=8192)
def words(text: str) -> tuple[str, ...]:
    """`listOwnersPage`, `list-owners_page` → ("list", "owners", "page")."""
    return tuple(word.lower() for word in _WORD.findall(text))


@lru_cache(maxsize=8192)
def fold(text: str) -> str:
    """Letters and digits only, lower case: `pet_type-ID` → `pettypeid`. Other scripts are kept as they are."""
    return "".join(character for character in text.casefold() if character.isalnum())


@lru_cache(maxsize=8192)
def _stems(text: str) -> frozenset[str]:
    word = fold(text)
    found = {word, _IRREGULAR.get(word, word)}
    if word.endswith("ies") and len(word) > 4:
        found.add(word[:-3] + "y")
    if word.endswith("es") and len(word) > 3:
        found.add(word[:-2])
    if word.endswith("s") and not word.endswith("ss") and len(word) > 2:
        found.add(word[:-1])
    return frozenset(found)


def same_noun(one: str, other: str) -> bool:
    """Whether two names are the same noun, singular or plural: `PetType` and `pettypes`, `category`, `categories`."""
    return not _stems(one).isdisjoint(_stems(other))


def singular(text: str) -> str:
    """The likely singular of a path segment, in its own spelling: `special-events` → `special-event`."""
    lower = text.lower()
    if lower in _IRREGULAR:
        return _IRREGULAR[lower]
    if lower.endswith("ies") and len(lower) > 4:
        return text[:-3] + "y"
    if lower.endswith(("sses", "xes", "ches", "shes", "zes", "uses")) and len(lower) > 4:
        return text[:-2]
    if lower.endswith("oes") and not lower.endswith(("shoes", "canoes")) and len(lower) > 4:
        return text[:-2]
    if lower.endswith("s") and not lower.endswith(("ss", "us", "is")) and len(lower) > 2:
        return text[:-1]
    return text


def a(name: str) -> str:
    """The name with its indefinite article: `an Owner`, `a Pet`."""
    return f"{'an' if name[:1].lower() in tuple('aeio') else 'a'} {name}"


def pascal(text: str) -> str:
    """`special-event` → `SpecialEvent`."""
    return "".join(word[:1].upper() + word[1:] for word in re.findall(r"[^\W_]+", text)) or "Thing"


_VARIANT_BEFORE = (
    "create",
    "update",
    "new",
    "add",
    "edit",
    "patch",
    "put",
    "post",
    "upsert",
    "replace",
    "base",
    "partial",
    "get",
    "list",
    "read",
)
_VARIANT_AFTER = (
    "create", "update", "request", "response", "input", "output", "fields", "dto", "read", "write", "in", "out", "patch",
    "body", "payload", "view", "summary", "detail", "details", "model", "schema", "item", "list", "base", "props", "attributes",
    "full", "brief", "spec", "params", "resource", "entity", "object", "data", "info", "representation", "new", "collection",
    "public", "serializer", "detailed", "extended",
)  # fmt: skip


@lru_cache(maxsize=8192)
def stem(name: str) -> str:
    """The noun of a schema's name without what marks a variant: `CreateOwnerRequest`, `OwnerFields`, `OwnerWithPets` → `owner`."""
    parts = list(words(name))
    if "with" in parts[1:-1]:
        parts = parts[: parts.index("with", 1)]
    while len(parts) > 1 and parts[0] in _VARIANT_BEFORE:
        parts.pop(0)
    while len(parts) > 1 and parts[-1] in _VARIANT_AFTER:
        parts.pop()
    return "".join(parts)
