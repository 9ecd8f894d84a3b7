"""What callers may count on: Settings. Generated from the document by Backwright."""

import pytest

from tests.api import STRANGERS, Api, Json


async def test_settings_is_set_and_read_back(api: Api) -> None:
    """Nobody can make it anew: the first PUT does, the next one replaces it."""
    await api.get("/settings", expect=404)

    await api.put("/settings", body={"lendingDays": 1, "motto": "sample"}, expect=200)
    found = await api.get("/settings", expect=200)
    assert found == {**found, "lendingDays": 1, "motto": "sample"}
    await api.put("/settings", body={"lendingDays": 3, "motto": "beta"}, expect=200)
    found = await api.get("/settings", expect=200)
    assert found == {**found, "lendingDays": 3, "motto": "beta"}


@pytest.mark.parametrize(("name", "value"), [("lendingDays", 0), ("motto", 17)])
async def test_replace_settings_refuses_an_invalid_property(api: Api, name: str, value: Json) -> None:
    """One that the document does not allow, among others that it does."""
    body = {**api.sample("PUT", "/settings"), name: value}

    await api.put("/settings", body=body, expect=400)


@pytest.mark.parametrize("missing", ["lendingDays"])
async def test_replace_settings_refuses_a_body_without_a_required_property(api: Api, missing: str) -> None:
    """Each in its turn."""
    body = api.sample("PUT", "/settings")
    del body[missing]

    await api.put("/settings", body=body, expect=400)


@pytest.mark.parametrize(("method", "path", "status"), [("PUT", "/settings", 400)])
async def test_body_that_is_no_json_is_refused(api: Api, method: str, path: str, status: int) -> None:
    """Cut short, not UTF-8, and U+0000, which no database text can hold."""
    for content in (b"{", b"\xff", b'{"\\u0000": "\\u0000"}'):
        await api.call(method, path, content=content, expect=status)


@pytest.mark.parametrize(("method", "path"), [("GET", "/settings"), ("PUT", "/settings")])
async def test_settings_is_closed_to_strangers(api: Api, method: str, path: str) -> None:
    """Without credentials nothing happens, not even a look at the body."""
    for headers in STRANGERS:
        answered = await api.send(method, path, content=b"{", headers=headers, anonymous=True)
        assert answered.status_code == 401, answered.text
        assert answered.headers["www-authenticate"]
