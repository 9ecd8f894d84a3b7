"""Where the service answers for itself, beside the document's operations. Generated from the document by Backwright.

Nothing of the service is imported here: the image's health check asks for a path every ten seconds.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Paths:
    """At the root, or below /_backwright where the contract uses that path itself."""

    live: str = "/health/live"
    ready: str = "/health/ready"
    metrics: str = "/metrics"
    document: str = "/openapi.json"


PATHS = Paths(live="/health/live", ready="/health/ready", metrics="/metrics", document="/openapi.json")
