"""Filters through which everything of a document goes into a delivered file."""

import pytest

from agent.compiler.weave import md


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Rented by the day. Prices (net) are in e-cents!", "Rented by the day. Prices (net) are in e-cents!"),
        ("[x](http://example.test) ![y](z)", r"\[x\](http://example\.test) !\[y\](z)"),
        ("see www.example.test, a@example.test", r"see www\.example\.test, a@example\.test"),
        ("<b> a | b # `c` *d*", r"\<b\> a \| b \# `c` \*d\*"),
        ("`return` is an action", "`return` is an action"),
        ("a `b | [c](d)` <e>", r"a `b \| [c](d)` \<e\>"),
        ("one ` alone, [b](c)", r"one \` alone, \[b\](c)"),
        ("```` [b](c)", r"\`\`\`\` \[b\](c)"),
        ("``b` c", r"\`\`b\` c"),
        ("- a", r"\- a"),
        ("1. a", r"1\. a"),
        ("2) a", r"2\) a"),
        ("two\n# lines", r"two \# lines"),
    ],
)
def test_text_in_markdown_is_taken_literally_and_stays_readable(text: str, written: str) -> None:
    """A title is hostile data, and prose that people read in the raw file too: only what would be markup is escaped."""
    assert md(text) == written
