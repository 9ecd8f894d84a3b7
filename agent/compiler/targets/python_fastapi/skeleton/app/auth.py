"""Who calls, and may they: the schemes that the document declares, checked before a body is read.

Everything that the document secures is closed until a scheme lets the caller in (deny by default). Entries come from
the environment, one group per scheme, see RUNBOOK.md; a secured service without them refuses to start. A scheme of a
kind that cannot be checked here (`mutualTLS`: the connection ends before us) lets nobody in.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.requests import Request

from app.errors import Kind, Problem
from app.jwks import IssuerKeys, key_id_of

Json = Any
SCRYPT = {"n": 2**14, "r": 8, "p": 1, "maxmem": 64 * 1024**2}
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")


class ConfigurationError(Exception):
    """The service must not start like this; the message names the variable."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who was let in, by which schemes."""

    name: str = "anonymous"
    scopes: frozenset[str] = frozenset()
    schemes: tuple[str, ...] = ()
    claims: Mapping[str, Json] = field(default_factory=dict)


class Scheme(Protocol):
    """One declared scheme, with its entries."""

    challenge: str

    async def identify(self, request: Request) -> Caller | None:
        """The caller, or None if the request carries no valid credential of this scheme."""


def variable(scheme: str) -> str:
    """The prefix of a scheme's environment variables: upper case, `_` for what a variable cannot hold."""
    return "SERVICE_AUTH_" + (re.sub(r"[^A-Z0-9]+", "_", scheme.upper()).strip("_") or "SCHEME")


# --- Basic ----------------------------------------------------------------------------------------------------------


def hash_password(password: str, salt: bytes | None = None) -> str:
    """`scrypt:<salt>:<hash>`, as `SERVICE_AUTH_<SCHEME>_USERS` takes it."""
    salt = salt or secrets.token_bytes(16)
    digest = hashlib.scrypt(password.encode(), salt=salt, dklen=32, **SCRYPT)
    return f"scrypt:{salt.hex()}:{digest.hex()}"


def check_password(password: str, entry: str) -> bool:
    """Whether a password fits an entry; takes as long for a wrong one."""
    kind, salt, _ = entry.split(":")
    return kind == "scrypt" and hmac.compare_digest(hash_password(password, bytes.fromhex(salt)), entry)


class Passed:
    """Credentials that passed, by a keyed digest, for a minute: passwords and signatures are slow to check."""

    kept_s = 60.0
    kept_max = 10_000

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._callers: dict[bytes, tuple[float, Caller]] = {}

    def find(self, credential: str) -> Caller | None:
        """Who passed with it lately."""
        until, caller = self._callers.get(self._seal(credential), (0.0, None))
        return caller if until > time.monotonic() else None

    def keep(self, credential: str, caller: Caller, valid_s: float = kept_s) -> None:
        """Remember for a minute, or for as long as the credential is valid."""
        if len(self._callers) >= self.kept_max:
            self._callers.clear()
        self._callers[self._seal(credential)] = time.monotonic() + min(valid_s, self.kept_s), caller

    def _seal(self, credential: str) -> bytes:
        return hmac.digest(self._secret, credential.encode(errors="surrogateescape"), "sha256")


class Basic:
    """HTTP Basic against hashed passwords."""

    challenge = "Basic"

    def __init__(self, users: Mapping[str, str]) -> None:
        self._users = users
        self._nobody = hash_password(secrets.token_hex(8))
        self._passed = Passed()

    async def identify(self, request: Request) -> Caller | None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "basic":
            return None
        try:
            name, found, password = base64.b64decode(token, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        if not found:
            return None
        if (known := self._passed.find(token)) is not None:
            return known
        # An unknown name costs the same time as a known one.
        entry = self._users.get(name, self._nobody)
        if not await asyncio.to_thread(check_password, password, entry) or name not in self._users:
            return None
        caller = Caller(name)
        self._passed.keep(token, caller)
        return caller


# --- API keys -------------------------------------------------------------------------------------------------------


def hash_key(key: str) -> str:
    """`sha256:<hash>`: enough for random keys, as `SERVICE_AUTH_<SCHEME>_KEYS` takes them."""
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


class ApiKey:
    """A key in a header, the query or a cookie, against hashes."""

    def __init__(self, place: str, parameter: str, keys: Mapping[str, str]) -> None:
        self.challenge = f'ApiKey in="{place}"'
        self._place, self._parameter = place, parameter
        self._names = {entry: name for name, entry in keys.items()}

    async def identify(self, request: Request) -> Caller | None:
        sources: dict[str, Mapping[str, str]] = {
            "header": request.headers,
            "query": request.query_params,
            "cookie": request.cookies,
        }
        given = sources[self._place].get(self._parameter)
        if not given:
            return None
        # Looked up by hash: the time says nothing about the key.
        name = self._names.get(hash_key(given))
        return Caller(name) if name is not None else None


# --- Bearer ---------------------------------------------------------------------------------------------------------


class Bearer:
    """A JWT, signed with a key that we know. The algorithm comes from the settings, never from the token."""

    challenge = "Bearer"

    def __init__(
        self,
        *,
        key: str | None,
        jwks_url: str | None,
        algorithms: Sequence[str],
        issuer: str | None,
        audience: str | None,
    ) -> None:
        self._key = key
        self._issuer_keys = IssuerKeys(jwks_url) if jwks_url else None
        self._passed = Passed()
        self._algorithms, self._issuer, self._audience = list(algorithms), issuer, audience

    async def identify(self, request: Request) -> Caller | None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token:
            return None
        if (known := self._passed.find(token)) is not None:
            return known
        try:
            key = self._key if self._issuer_keys is None else await self._issuer_keys.find(key_id_of(token))
            if key is None:
                return None
            claims = jwt.decode(
                token,
                key,
                algorithms=self._algorithms,
                issuer=self._issuer,
                audience=self._audience,
                options={"require": ["exp", "sub"], "verify_aud": self._audience is not None},
                leeway=10,
            )
            valid_s = claims["exp"] - time.time()
        # TypeError: a key of another kind than the token's algorithm, or a time in a text; OverflowError: no such time
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError):
            return None
        caller = Caller(str(claims["sub"]), scopes_of(claims), claims=claims)
        self._passed.keep(token, caller, valid_s)
        return caller


def scopes_of(claims: Mapping[str, Json]) -> frozenset[str]:
    """Scopes of a token: `scope` (RFC 8693), `scp`, `permissions` and `roles`, texts or lists."""
    found: set[str] = set()
    for name in ("scope", "scp", "permissions", "roles"):
        value = claims.get(name, [])
        parts = value.split() if isinstance(value, str) else value
        if isinstance(parts, list):
            found.update(part for part in parts if isinstance(part, str))
    return frozenset(found)


# --- All of them ----------------------------------------------------------------------------------------------------


def entries(environment: Mapping[str, str], name: str, example: str) -> dict[str, str]:
    """`name=hash` pairs, separated by commas or white space."""
    text = environment.get(name, "")
    found = dict(part.split("=", 1) for part in re.split(r"[,\s]+", text) if "=" in part)
    if not found:
        raise ConfigurationError(f"{name} is missing: the document secures operations with it (example: {example})")
    return found


def kind_of(declared: Mapping[str, Json]) -> Literal["basic", "key", "bearer"] | None:
    """How a scheme is checked; None: it cannot be checked here."""
    kind, scheme = str(declared.get("type", "")), str(declared.get("scheme", "")).lower()
    if kind == "apiKey" and declared.get("in") in ("header", "query", "cookie") and declared.get("name"):
        return "key"
    if kind == "http" and scheme == "basic":
        return "basic"
    return "bearer" if kind in ("oauth2", "openIdConnect") or (kind == "http" and scheme == "bearer") else None


def build_scheme(name: str, declared: Mapping[str, Json], environment: Mapping[str, str]) -> Scheme | None:
    """A scheme with its entries; None: it cannot be checked. Raises ConfigurationError: a variable is missing or wrong."""
    prefix, kind = variable(name), kind_of(declared)
    if kind == "basic":
        users = entries(environment, f"{prefix}_USERS", "alice=scrypt:<salt>:<hash>")
        if any(not re.fullmatch(r"scrypt:[0-9a-f]+:[0-9a-f]{64}", entry) for entry in users.values()):
            raise ConfigurationError(f"{prefix}_USERS: an entry is not scrypt:<salt>:<hash> (python -m app.dev hash)")
        return Basic(users)
    if kind == "key":
        keys = entries(environment, f"{prefix}_KEYS", "reporting=sha256:<hash>")
        return ApiKey(str(declared["in"]), str(declared["name"]), keys)
    return build_bearer(prefix, environment) if kind == "bearer" else None


def build_bearer(prefix: str, environment: Mapping[str, str]) -> Bearer:
    """A JWT scheme: a public key in PEM or a JWKS URL; issuer and audience if given."""
    key, url = environment.get(f"{prefix}_PUBLIC_KEY"), environment.get(f"{prefix}_JWKS_URL")
    if bool(key) == bool(url):
        raise ConfigurationError(f"set either {prefix}_PUBLIC_KEY (PEM) or {prefix}_JWKS_URL")
    algorithms = environment.get(f"{prefix}_ALGORITHMS", "RS256,ES256").split(",")
    if not set(algorithms) <= set(ALGORITHMS):
        raise ConfigurationError(f"{prefix}_ALGORITHMS: only {', '.join(ALGORITHMS)}")
    return Bearer(
        key=key,
        jwks_url=url,
        algorithms=algorithms,
        issuer=environment.get(f"{prefix}_ISSUER"),
        audience=environment.get(f"{prefix}_AUDIENCE"),
    )


class Gate:
    """Lets callers in, by the schemes that the operations of the document use."""

    def __init__(
        self, declared: Mapping[str, Mapping[str, Json]], used: set[str], environment: Mapping[str, str]
    ) -> None:
        built = {name: build_scheme(name, declared.get(name, {}), environment) for name in sorted(used)}
        self._schemes = {name: scheme for name, scheme in built.items() if scheme is not None}

    async def admit(self, request: Request, alternatives: Sequence[Mapping[str, Sequence[str]]]) -> Caller:
        """The caller, if one alternative is fulfilled. Raises Problem: unauthenticated, forbidden (scopes), or
        not implemented (no alternative can be checked, nobody is let in)."""
        if not alternatives:
            return Caller()
        ways = [way for way in alternatives if way.keys() <= self._schemes.keys()]
        if not ways:
            raise Problem(Kind.NOT_IMPLEMENTED, "The credential that is demanded cannot be checked here.")
        known: dict[str, Caller | None] = {}
        too_little = False
        for alternative in ways:
            callers = []
            for name in alternative:
                if name not in known:
                    known[name] = await self._schemes[name].identify(request)
                callers.append((name, known[name]))
            if any(caller is None for _, caller in callers):
                continue
            if all(caller and caller.scopes >= self._needed(name, alternative) for name, caller in callers):
                first = next((caller for _, caller in callers if caller), Caller())
                return Caller(first.name, first.scopes, tuple(alternative), first.claims)
            too_little = True
        if too_little:
            raise Problem(Kind.FORBIDDEN, "The credential does not permit this operation.")
        challenges = dict.fromkeys(self._schemes[name].challenge for way in ways for name in way)
        raise Problem(
            Kind.UNAUTHENTICATED,
            "A valid credential is needed.",
            headers={"WWW-Authenticate": ", ".join(f'{c} realm="service"' if " " not in c else c for c in challenges)},
        )

    def _needed(self, name: str, alternative: Mapping[str, Sequence[str]]) -> frozenset[str]:
        """Scopes mean something for tokens only."""
        return frozenset(alternative[name]) if isinstance(self._schemes[name], Bearer) else frozenset()


def mint(name: str, declared: Mapping[str, Json], scopes: Sequence[str]) -> tuple[dict[str, str], dict[str, Json]]:
    """A throwaway credential: the environment that accepts it, and what a request carries."""
    prefix, kind = variable(name), kind_of(declared)
    carried: dict[str, Json] = {"headers": {}, "query": {}, "cookies": {}, "description": ""}
    if kind == "basic":
        password = secrets.token_urlsafe(24)
        token = base64.b64encode(f"developer:{password}".encode()).decode()
        carried |= {"headers": {"Authorization": f"Basic {token}"}, "description": f"developer:{password}"}
        return {f"{prefix}_USERS": f"developer={hash_password(password)}"}, carried
    if kind == "key":
        key = secrets.token_urlsafe(24)
        place = {"header": "headers", "query": "query", "cookie": "cookies"}[str(declared["in"])]
        carried |= {place: {str(declared["name"]): key}, "description": f"{declared['name']}: {key}"}
        return {f"{prefix}_KEYS": f"developer={hash_key(key)}"}, carried
    private, public = new_key_pair()
    token = sign(private, {"sub": "developer", "scope": " ".join(scopes)})
    carried |= {"headers": {"Authorization": f"Bearer {token}"}, "description": f"scopes: {' '.join(scopes) or 'none'}"}
    return {f"{prefix}_PUBLIC_KEY": public, f"{prefix}_ALGORITHMS": "ES256"}, carried


def new_key_pair() -> tuple[str, str]:
    """A fresh P-256 pair: (private, public) in PEM."""
    private = ec.generate_private_key(ec.SECP256R1())
    hidden = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    shown = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hidden.decode(), shown.decode()


def sign(private_key: str, claims: Mapping[str, Json], *, valid_s: int = 86_400) -> str:
    """A JWT for trying things out."""
    now = int(time.time())
    return jwt.encode({"iat": now, "exp": now + valid_s, **claims}, private_key, algorithm="ES256")
