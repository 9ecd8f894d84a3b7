"""uvicorn's HTTP protocol, with bounds on what a client may cost before anybody knows who it is.

uvicorn bounds neither the size of a request's head nor the time in which it must arrive, and a body that nobody reads may
drip in for ever. What is refused here gets a problem document, as everything else does.
"""

import asyncio
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.errors import PROBLEM
from app.settings import Settings
from app.values import encode


class HeadTooLarge(Exception):
    """The head of a request is larger than it may be."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection. A message is a head, then a body; `_in_head` until the blank line between them has arrived."""

    head_limit_bytes: int
    patience_s: float

    _in_head = True
    _has_begun = False  # the parser has seen the first byte of a head
    _head_bytes = 0
    _is_too_large = False
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and (self._has_begun or self._head_bytes) and not self.transport.is_closing():
            if self._head_bytes > self.head_limit_bytes:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, self._too_large)
            elif self._timer is None:
                self._arm()

    def on_message_begin(self) -> None:
        self._has_begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = self._has_begun = False
        self._head_bytes = 0
        self._disarm()
        # A head that arrived in one piece was not counted while it came.
        if len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > self.head_limit_bytes:
            self._is_too_large = True
            raise HeadTooLarge  # the parser stops, and `send_400_response` is called
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        self._disarm()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._in_head:  # the rest of the body comes, or does not
            self._arm()

    def send_400_response(self, msg: str) -> None:
        if self._is_too_large:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, self._too_large)
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, msg)

    @property
    def _too_large(self) -> str:
        return f"The head of a request may have {self.head_limit_bytes} bytes."

    def _arm(self) -> None:
        self._timer = self.loop.call_later(self.patience_s, self._is_late)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _is_late(self) -> None:
        if self._in_head and self._has_begun:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "The head of the request took too long.")
        else:  # nothing to answer: no request, or one that has its answer
            self.transport.close()

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        if self.transport.is_closing():
            return
        body = encode({"type": "about:blank", "title": status.phrase, "status": status, "detail": detail})
        head = (
            f"HTTP/1.1 {status} {status.phrase}\r\ncontent-type: {PROBLEM.media_type}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()


def protocol_for(settings: Settings) -> type[BoundedProtocol]:
    """The protocol with the bounds of the settings."""

    class Protocol(BoundedProtocol):
        head_limit_bytes = settings.head_limit_bytes
        patience_s = settings.head_timeout_s

    return Protocol
