"""Paths of a document and paths of requests."""

import time
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from app.dispatch import Dispatch, Template

Json = Any


@pytest.mark.parametrize(
    ("template", "segment", "values"),
    [
        ("{a}", "x", ("x",)),
        ("{a}", "", None),
        ("{a}.json", "x.json", ("x",)),
        ("{a}.json", ".json", None),
        ("v{a}", "v1", ("1",)),
        ("v{a}", "w1", None),
        ("{a}.{b}", "f.tar.gz", ("f.tar", "gz")),
        ("{a}.{b}", "f.", None),
        ("{a}-{b}-{c}", "1-2-3", ("1", "2", "3")),
        ("ab{a}ba", "aba", None),
    ],
)
def test_parameters_of_a_segment(template: str, segment: str, values: tuple[str, ...] | None) -> None:
    """None of them is empty; the first ones take what they can."""
    assert Template.of(template).values(segment) == values


def test_a_hostile_segment_costs_no_time() -> None:
    """A regular expression would try every pair of dots."""
    started = time.process_time()

    assert Template.of("{a}.{b}.{c}.json").values("." * 30_000) is None
    assert time.process_time() - started < 0.5


async def served(dispatch: Dispatch, method: str, path: bytes) -> tuple[int, Json]:
    """Status of the answer, and what the operation that gave it saw."""
    sent: list[Json] = []

    async def send(message: Json) -> None:
        sent.append(message)

    async def receive() -> Json:
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": method, "path": path.decode(errors="replace"), "raw_path": path, "headers": []}
    await dispatch(scope, receive, send)
    return sent[0]["status"], scope.get("path_texts")


def dispatch_of(*operations: tuple[str, str, int]) -> Dispatch:
    """Operations by method and path that answer with a status."""
    dispatch = Dispatch()
    for method, path, status in operations:

        async def operation(scope: Scope, receive: Receive, send: Send, status: int = status) -> None:
            await send({"type": "http.response.start", "status": status, "headers": []})

        dispatch.add(method, path, operation)
    return dispatch


async def test_the_most_concrete_path_wins() -> None:
    """Also where the general one comes first; what fits only at the beginning is left again."""
    dispatch = dispatch_of(
        ("GET", "/pets/{id}", 201),
        ("GET", "/pets/mine", 202),
        ("GET", "/pets/{id}.json", 203),
        ("GET", "/{x}/mine/z", 204),
    )

    assert await served(dispatch, "GET", b"/pets/7") == (201, {"id": "7"})
    assert await served(dispatch, "GET", b"/pets/mine") == (202, {})
    assert await served(dispatch, "GET", b"/pets/7.json") == (203, {"id": "7"})
    assert await served(dispatch, "GET", b"/pets/mine/z") == (204, {"x": "pets"})


async def test_a_parameter_may_have_two_names() -> None:
    """Some documents name it by method."""
    dispatch = dispatch_of(("GET", "/pets/{id}", 201), ("PUT", "/pets/{petId}", 202))

    assert await served(dispatch, "GET", b"/pets/7") == (201, {"id": "7"})
    assert await served(dispatch, "PUT", b"/pets/7") == (202, {"petId": "7"})
    assert (await served(dispatch, "DELETE", b"/pets/7"))[0] == 405
    assert (await served(dispatch, "OPTIONS", b"/pets/7"))[0] == 204


async def test_segments_are_decoded_after_the_path_is_split() -> None:
    """An encoded slash is part of a value; what is no UTF-8 is refused."""
    dispatch = dispatch_of(("GET", "/pets/{id}", 201))

    assert await served(dispatch, "GET", b"/pets/a%2Fb%20c") == (201, {"id": "a/b c"})
    assert (await served(dispatch, "GET", b"/pets/%FF"))[0] == 400
    assert (await served(dispatch, "GET", b"/pets/\xff"))[0] == 400
    assert (await served(dispatch, "GET", b"/pets/"))[0] == 404
