"""Rendering: one frozen dataclass per template, literals only through escaping filters, undefined names are errors."""

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

Json = Any

# A dot counts only where a link may grow around it (www.example), what marks a list only in front of a line.
_MARKUP = re.compile(r"[\\`*_{}\[\]<>#|~$&]|\.(?=\S)|^[-+]")
_NUMBERED = re.compile(r"^(\d+)([.)])(?=\s|$)")


def py(value: Json) -> str:
    """A Python literal. Text keeps printable characters; everything else is escaped, lone surrogates too."""
    return repr(value)


def docstring(text: str) -> str:
    """A docstring of one line: no quote can end it, no backslash escape can start, no control character is left."""
    words = " ".join("".join(c if c.isprintable() else " " for c in text).split()) or "Undocumented."
    safe = words.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    if safe.endswith('"'):
        safe = f'{safe[:-1]}\\"'
    return f'"""{safe[:500].rstrip(chr(92))}"""' if len(safe) > 500 else f'"""{safe}"""'


def toml(text: str) -> str:
    """A TOML string on one line."""
    safe = "".join(c if c.isprintable() else f"\\u{ord(c):04X}" for c in _encodable(text).replace("\\", "\\\\"))
    return '"' + safe.replace('"', '\\"') + '"'


def md(text: str, length: int = 300) -> str:
    """Text inside a line of Markdown: markup and HTML are taken literally, but for code between two backticks."""
    words = " ".join("".join(c if c.isprintable() else " " for c in _encodable(text)).split())[:length]
    parts = words.split("`")
    # An even number of parts is a backtick without its other one, a blank one would be half of a longer fence.
    if len(parts) % 2 == 0 or not all(part.strip() for part in parts[1::2]):
        return _literally(words)
    return "".join(code(part) if number % 2 else _literally(part) for number, part in enumerate(parts))


def _literally(text: str) -> str:
    return _NUMBERED.sub(r"\1\\\2", _MARKUP.sub(r"\\\g<0>", text))


def code(text: str, length: int = 300) -> str:
    """A code span of Markdown, also inside a table."""
    words = " ".join("".join(c if c.isprintable() else " " for c in _encodable(text)).split())[:length]
    return "`" + words.replace("`", "'").replace("|", "\\|") + "`"


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def pretty_json(value: Json) -> str:
    """JSON as we deliver it: indented, sorted by the document's own order, ASCII where it must be."""
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2, allow_nan=False)
    return text + "\n"


def migration_type(kind: str) -> str:
    """A column's type as a migration names it."""
    return f"postgresql.{kind}" if kind.startswith("JSONB") else f"sa.{kind}"


@cache
def environment(package: str) -> Environment:
    """The templates below `package`/woven."""
    folder = files(package).joinpath("woven")

    def load(name: str) -> str | None:
        file = folder.joinpath(name)
        return file.read_text("utf-8") if file.is_file() else None

    made = Environment(
        loader=FunctionLoader(load),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - no HTML is made here; every template names its escaping filter
    )
    made.filters |= {
        "py": py, "docstring": docstring, "toml": toml, "md": md, "code": code, "migration_type": migration_type,
    }  # fmt: skip
    return made


def render(package: str, template: str, values: Mapping[str, Any]) -> str:
    """One file. Raises jinja2.TemplateError: a template asks for what nobody decided."""
    return environment(package).get_template(template).render(**values)
