"""Bytes become a tree within limits, or one diagnostic that names place, fault and remedy."""

import time

import pytest

from agent.compiler.reading.source import read
from agent.errors import SpecRejected
from agent.settings import CompilerSettings


def test_yaml_is_read_by_the_core_schema(settings: CompilerSettings) -> None:
    """YAML 1.1 turns `no` into false, a date into an object and 0755 into 493: nobody means that in a specification."""
    text = b"a: no\nb: 2020-01-01\nc: 0755\nd: 0o17\ne: 0x1F\nf: ~\ng: 1e3\nh: 12:30\ni: 1_000\nj: True\nk: '1'\n"

    assert read(text, settings).tree == {
        "a": "no", "b": "2020-01-01", "c": 755, "d": 15, "e": 31, "f": None, "g": 1000.0, "h": "12:30", "i": "1_000",
        "j": True, "k": "1",
    }  # fmt: skip


def test_tabs_in_json_are_fine(settings: CompilerSettings) -> None:
    """A YAML loader refuses them, though JSON allows them."""
    assert read(b'{\t"a":\t[1]}', settings).tree == {"a": [1]}


def test_a_byte_order_mark_is_taken_off(settings: CompilerSettings) -> None:
    """Windows editors write it."""
    assert read(b"\xef\xbb\xbfa: 1", settings).tree == {"a": 1}


def test_keys_keep_their_text_and_are_told(settings: CompilerSettings) -> None:
    """`200:` is an integer to YAML; OpenAPI wants a text, and the report lists the change."""
    source = read(b"responses:\n  200: {}\n", settings)

    assert source.tree == {"responses": {"200": {}}}
    assert source.unquoted == ("/responses/200",)


def test_merge_keys_are_resolved(settings: CompilerSettings) -> None:
    """YAML 1.2 dropped them, people did not."""
    source = read(b"a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n", settings)

    assert source.tree["b"] == {"x": 1, "y": 3}
    assert source.merged


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{c}: &{c} [{','.join(['*' + p] * 9)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("given", "code", "pointer"),
    [
        (b"", "document.empty", ""),
        (b" \n", "document.empty", ""),
        (bytes(range(256)), "document.encoding", ""),
        ('{"a": 1}'.encode("utf-16"), "document.encoding", ""),
        (b'{"a": "\xff"}', "document.encoding", ""),
        (b"- 1", "document.not-a-mapping", ""),
        (b'{"a": 1,, "b"}', "document.syntax", ""),
        (b"a: [1", "document.syntax", ""),
        (b'{"a": {"b": 1, "b": 2}}', "document.duplicate-key", "/a/b"),
        (b"a:\n  b: 1\n  b: 2", "document.duplicate-key", "/a/b"),
        (b"a: !!python/object/apply:os.system [x]", "document.tag", "/a"),
        (b"a: &a [*a]", "document.alias", "/a/0"),
        (b"a: *b", "document.alias", "/a"),
        (b"? [a]\n: b", "document.key", ""),
        (b'{"a": NaN}', "document.value", ""),
        (b'{"a": 1e999}', "document.value", "/a"),
        (b'{"a": "\\ud800"}', "document.value", "/a"),
        (b"a: .inf", "document.value", "/a"),
        (b'{"a": ' + b"9" * 5000 + b"}", "document.value", ""),
        (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", "limit.depth", ""),
        (b"a: " + b"[" * 5000 + b"]" * 5000, "limit.depth", ""),
        (b"\n".join(b"a%d: &a%d [*a%d]" % (i, i, i - 1) if i else b"a0: &a0 [x]" for i in range(300)), "limit.depth", "/a98/0"),
        (BOMB.encode(), "limit.nodes", "/f"),
        (b"a: &a 1\nb: [" + b"*a," * 1001 + b"]", "limit.aliases", "/b/1000"),
        (b'{"' + b"k" * 1001 + b'": 1}', "limit.name", "/" + "k" * 40 + "…"),
    ],
)  # fmt: skip
def test_a_fault_is_named(settings: CompilerSettings, given: bytes, code: str, pointer: str) -> None:
    """Each kind of fault has a code, a pointer and a remedy, and nothing escapes as another exception."""
    with pytest.raises(SpecRejected) as caught:
        read(given, settings)

    (found,) = caught.value.diagnostics
    assert (found.code, found.pointer) == (code, pointer)
    assert found.message
    assert found.remedy


def test_fifty_megabytes_are_refused_at_once(settings: CompilerSettings) -> None:
    """The size is looked at before anything is decoded."""
    given = b'{"a": "' + b"a" * 50_000_000 + b'"}'
    start = time.process_time()

    with pytest.raises(SpecRejected, match="1 fault"):
        read(given, settings)

    assert time.process_time() - start < 0.5
