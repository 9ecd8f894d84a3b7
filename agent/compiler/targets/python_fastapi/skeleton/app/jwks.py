"""The public keys of a token issuer (JWKS, RFC 7517): fetched when they are needed, and kept."""

import asyncio
import time
from typing import Any

import jwt
import structlog

from app.errors import Kind, Problem

log = structlog.get_logger()


class IssuerKeys:
    """Keys by id. A key that the issuer withdrew is forgotten after `fresh_s`.

    An unknown id makes us ask again, because issuers rotate; not more often than every `pause_s`, because attackers
    guess. While the issuer is out of reach the last keys hold for `stale_s`: its outage is not ours at once.
    """

    fresh_s = 300.0
    stale_s = 3600.0
    pause_s = 10.0
    timeout_s = 5.0

    def __init__(self, url: str) -> None:
        # Its own caches are off: the one for keys never forgets, none holds on while the issuer is away.
        self._client = jwt.PyJWKClient(url, cache_jwk_set=False, timeout=self.timeout_s)
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._fetched_at = self._asked_at = -float("inf")
        self._lock = asyncio.Lock()

    async def find(self, key_id: str | None) -> jwt.PyJWK | None:
        """The key with this id; None if the issuer has none. Raises Problem: we have no keys and get none."""
        if self._is_due(key_id) and not (self._lock.locked() and key_id in self._keys):
            async with self._lock:
                if self._is_due(key_id):  # nobody asked while we waited
                    await self._fetch()
        if time.monotonic() - self._fetched_at > self.stale_s:
            raise Problem(Kind.UNAVAILABLE, "The keys of the token's issuer are out of reach.")
        return self._keys.get(key_id)

    def _is_due(self, key_id: str | None) -> bool:
        now = time.monotonic()
        is_wanting = key_id not in self._keys or now - self._fetched_at > self.fresh_s
        return is_wanting and now - self._asked_at > self.pause_s

    async def _fetch(self) -> None:
        try:
            found = jwt.PyJWKSet.from_dict(await asyncio.to_thread(self._client.fetch_data))
        except (jwt.PyJWTError, OSError, ValueError) as exc:  # no answer, or no key set
            log.error("issuer.unreachable", error_type=type(exc).__name__)
            return
        finally:  # not before: who comes meanwhile waits for this answer
            self._asked_at = time.monotonic()
        usable = [key for key in found.keys if key.public_key_use in (None, "sig")]
        self._keys = {key.key_id: key for key in usable}
        if len(usable) == 1:
            self._keys[None] = usable[0]  # a token need not name the only key
        self._fetched_at = self._asked_at


def key_id_of(token: str) -> str | None:
    """The id of the key that a token claims to be signed with. Raises jwt.PyJWTError: it is no token."""
    found: Any = jwt.get_unverified_header(token).get("kid")
    return found if isinstance(found, str) else None
