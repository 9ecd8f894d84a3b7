"""Tests of paging: each row stands on one page, and rows that come in between move none."""

from collections.abc import Iterator
from typing import Any

from agent.compiler import ir
from agent.compiler.targets.python_fastapi.suite.calls import call, place_in
from agent.compiler.targets.python_fastapi.suite.model import Code, Test
from agent.compiler.targets.python_fastapi.suite.shelf import Shelf

Json = Any
_TOLD = {ir.Meta.TOTAL: 5, ir.Meta.PAGES: 3, ir.Meta.LIMIT: 2, ir.Meta.COUNT: 2, ir.Meta.HAS_MORE: True}  # of 2 in 5


def page_tests(shelf: Shelf) -> Iterator[Test]:
    """Five rows on pages of two, as far as the document lets a caller ask for such pages."""
    paging = shelf.plan.paging
    if paging is None or paging.style is ir.PagingStyle.NONE or paging.limit is None or paging.position is None:
        return
    fits = shelf.takes(paging.limit, 2) and shelf.takes(paging.limit, 5) and (paging.maximum_limit or 5) >= 5
    if not fits:
        return
    numbered = _numbered(shelf, paging)
    linked = _linked(shelf, paging.limit)
    pages = linked if numbered is None else Code(f"[{_page(shelf, paging, 'number')} for number in {numbered!r}]")
    yield shelf.test(
        f"{shelf.subject.plural}_are_paged",
        "Each row stands on one page, in an order that the size of a page does not change; `Link` leads on.",
        [f"made = {_five(shelf, {})}"],
        [
            f"pages = {pages}",
            "assert [len(page) for page in pages] == [2, 2, 1]",
            "assert sorted(key for page in pages for key in page) == sorted(made)",
            f"assert [key for page in pages for key in page] == {shelf.ask({paging.limit: 5})}",
            *([f"assert pages == {linked}"] if numbered else []),
            *_told(shelf, paging.limit),
        ],
    )
    if shelf.is_keyed:
        yield from _steady_cursor(shelf, paging, paging.limit)
        yield from _steady_numbers(shelf, paging, numbered)


def _five(shelf: Shelf, changes: dict[str, Json]) -> Code:
    return Code(f"[({shelf.make('made', changes)})[{shelf.listing.mark!r}] for _ in range(5)]")


def _page(shelf: Shelf, paging: ir.Paging, number: str, more: dict[str, Json] | None = None) -> Code:
    return shelf.ask({str(paging.limit): 2, str(paging.position): Code(number), **(more or {})})


def _linked(shelf: Shelf, limit: str) -> Code:
    """The pages, from one link to the next."""
    places = ", ".join([repr(shelf.operation.path), *(repr(value) for value in shelf.place.keys.values())])
    rows = f"[row[{shelf.listing.mark!r}] for row in page{place_in(shelf.listing.items)}]"
    return Code(f"[{rows} for page in await api.pages({places}, query={ {limit: 2}!r})]")


def _numbered(shelf: Shelf, paging: ir.Paging) -> tuple[int, int, int] | None:
    """How a caller asks for the three pages by number or offset; None for cursors."""
    if paging.position is None or paging.style is ir.PagingStyle.CURSOR:
        return None
    first = paging.first_page
    numbers = (0, 2, 4) if paging.style is ir.PagingStyle.OFFSET else (first, first + 1, first + 2)
    return numbers if all(shelf.takes(paging.position, number) for number in numbers) else None


def _told(shelf: Shelf, limit: str) -> list[str]:
    """What the envelope says about the whole list."""
    told = {f"page{place_in(one.path)}": _TOLD[one.source] for one in shelf.plan.wrapper.fields if one.source in _TOLD}
    if not told:
        return []
    left, right = ", ".join(told), ", ".join(map(repr, told.values()))
    alone = left if right == "True" else f"{left} == {right}"
    compared = f"({left}) == ({right})" if len(told) > 1 else alone
    return [f"page = {call(shelf.operation, shelf.place.keys, query={limit: 2})}", f"assert {compared}"]


def _steady_cursor(shelf: Shelf, paging: ir.Paging, limit: str) -> Iterator[Test]:
    """A cursor goes on behind the row where it stood, wherever new rows come in."""
    token = next((one.path for one in shelf.plan.wrapper.fields if one.source is ir.Meta.NEXT_CURSOR), None)
    if paging.style is not ir.PagingStyle.CURSOR or paging.position is None or token is None:
        return
    if not shelf.takes(limit, 10) or (paging.maximum_limit or 10) < 10:
        return
    rest = shelf.ask({limit: 10, paging.position: Code(f"page{place_in(token)}")})
    shown = f"row[{shelf.listing.mark!r}] for row in page{place_in(shelf.listing.items)}"
    yield shelf.test(
        _steady_name(shelf),
        "What was there is shown once, whatever is added while somebody reads.",
        [f"made = {_five(shelf, {})}"],
        [
            f"page = {call(shelf.operation, shelf.place.keys, query={limit: 2})}",
            "for _ in range(3):",
            f"    {shelf.make('other')}",
            f"seen = [*({shown}), *{rest}]",
            "assert len(seen) == len(set(seen))",
            "assert set(made) <= set(seen)",
        ],
    )


def _steady_numbers(shelf: Shelf, paging: ir.Paging, numbers: tuple[int, int, int] | None) -> Iterator[Test]:
    """Numbered pages keep their rows if new ones sort behind them: by a counted key, or by a property that grows."""
    key = next(one for one in shelf.maker.resource.properties if one.name == shelf.maker.resource.key)
    order: dict[str, Json] | None = {} if key.generated is ir.Generated.IDENTITY else None
    before: dict[str, Json] = {}
    after: dict[str, Json] = {}
    for name in shelf.plan.sort.allowed if shelf.plan.sort and order is None else ():
        several, asked = shelf.several(name, ascending=True), shelf.order(name, descending=False)
        if several is not None and asked is not None:
            order, before, after = asked, {several.name: several.values[0]}, {several.name: several.values[1]}
            break
    if numbers is None or order is None:
        return
    first, second, third = (_page(shelf, paging, str(number), order) for number in numbers)
    yield shelf.test(
        _steady_name(shelf),
        "Rows that sort behind those that were there leave each of them where it was.",
        [f"made = {_five(shelf, before)}"],
        [
            f"seen = {first}",
            "for _ in range(3):",
            f"    {shelf.make('other', after)}",
            f"seen += [*{second}, *{third}]",
            "assert sorted(seen[:5]) == sorted(made)",
        ],
    )


def _steady_name(shelf: Shelf) -> str:
    return f"{shelf.subject.plural}_that_come_between_two_pages_move_none"
