"""The name of a service that nobody named."""

import re

import pytest

from agent.compiler.compile import service_name


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Toolshed rentals", "toolshed-rentals"),
        ("VAmPI", "vampi"),
        ("OpenFGA", "openfga"),
        ("Swagger Petstore - OpenAPI 3.0", "swagger-petstore-openapi-3-0"),
        ("123", "x-123"),
        ("A title of a document that somebody wrote in a meeting", "a-title-of-a-document-that-somebo-3eb16a"),
    ],
)
def test_title_becomes_a_name(title: str, name: str) -> None:
    """In lower case, words joined by dashes, at most 40 characters: a longer one ends in its hash."""
    assert service_name(title, b"{}") == name


@pytest.mark.parametrize("title", ["", "-", "../..", "\N{SNOWMAN}"])
def test_title_that_is_no_name_gives_one_from_the_bytes(title: str) -> None:
    """The same bytes give the same name."""
    assert re.fullmatch("service-[0-9a-f]{8}", service_name(title, b"{}"))
    assert service_name(title, b"{}") == service_name(title, b"{}") != service_name(title, b"[]")
