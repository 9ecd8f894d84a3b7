"""Names of artefacts: `sha256:` and 64 hex digits. Nothing else ever becomes a path or a key."""

import hashlib
import re

_NAME = re.compile(r"sha256:([0-9a-f]{64})")


def name_of(content: bytes) -> str:
    """The name of these bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def digest_in(name: str) -> str:
    """The hex digest in a name. Raises ValueError for any other form."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"not the name of an artefact: {name[:80]!r}")
    return match[1]
