"""The template, the example and the golden file are the same thing: weaving the canonical document gives the skeleton."""

import json

import pytest

from agent.compiler.compile import Compilation
from tests.golden.weaving import CANONICAL, MANIFEST, SKELETON, compiled, delivered, skeleton


@pytest.fixture(scope="module")
def woven() -> Compilation:
    """The canonical document, woven once."""
    return compiled(CANONICAL.read_bytes())


def test_weaving_the_canonical_document_gives_the_skeleton(woven: Compilation) -> None:
    """Byte for byte and mode for mode: an edit of one side shows as a difference here (`tests.golden.reweave`)."""
    found = skeleton()

    expected = delivered(woven)
    assert sorted(found) == sorted(expected)
    assert [path for path in found if found[path] != expected[path]] == []


def test_manifest_of_the_skeleton_is_current(woven: Compilation) -> None:
    """The skeleton's own tests walk by it; only the generator's version may differ."""
    stands = json.loads((SKELETON / MANIFEST).read_text("utf-8"))
    given = json.loads(json.dumps(woven.manifest))

    assert {**stands, "generator": None} == {**given, "generator": None}
    assert given["digest"] == woven.files.digest


def test_canonical_document_uses_every_feature(woven: Compilation) -> None:
    """A feature that the skeleton does not show is a feature that nobody can read, lint or run."""
    actions = {operation["action"] for operation in woven.manifest["operations"]}
    text = "".join(file.content.decode() for path, file in woven.files.items() if path.startswith("app/"))

    assert actions >= {"list", "get", "create", "replace", "patch", "delete", "link", "unlink", None}
    for word in ("Style.CURSOR", "Style.OFFSET", "Style.PAGE", "Links(", "Children(", "Reference(", "@unwritten"):
        assert word in text, word
    assert {scheme["kind"] for scheme in woven.manifest["security_schemes"]} == {"basic", "bearer", "api_key"}


def test_same_bytes_give_the_same_files(woven: Compilation) -> None:
    """No clock, no order of a set, no address in what we make."""
    again = compiled(CANONICAL.read_bytes())

    assert dict(again.files) == dict(woven.files)
    assert again.digest == woven.digest
