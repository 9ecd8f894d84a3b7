"""Which task a request is: the same one, however often it is sent."""

import hashlib
from uuid import NAMESPACE_URL, uuid5

TASK_NAMESPACE = uuid5(NAMESPACE_URL, "https://backwright.dev/task")
_NAMESPACE_BYTES = TASK_NAMESPACE.bytes
_NO_VERSION = ~(0xF000 << 64 | 0xC000 << 48)
_VERSION_5 = 0x5000 << 64 | 0x8000 << 48  # and the variant of RFC 9562


def task_id(source: str, key: str) -> str:
    """UUIDv5 of (source, idempotency key): the same request always has the same task id."""
    # uuid5(TASK_NAMESPACE, …), without the object that only its text is wanted of
    name = _NAMESPACE_BYTES + f"{len(source)}:{source}{key}".encode()
    number = int.from_bytes(hashlib.sha1(name, usedforsecurity=False).digest()[:16], "big")
    digits = f"{number & _NO_VERSION | _VERSION_5:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
