"""Which task a request is: the same one, however often it is sent."""

import hashlib
from uuid import NAMESPACE_URL, uuid5

TASK_NAMESPACE = uuid5(NAMESPACE_URL, "https://backwright.dev/task")
_NAMESPACE_BYTES = TASK_NAMESPACE.bytes
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}  # of RFC 9562, over the digest's own


def task_id(source: str, key: str) -> str:
    """UUIDv5 of (source, idempotency key): the same request always has the same task id."""
    # uuid5(TASK_NAMESPACE, …), without the object that only its text is wanted of
    name = _NAMESPACE_BYTES + f"{len(source)}:{source}{key}".encode()
    digits = hashlib.sha1(name, usedforsecurity=False).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:32]}"
