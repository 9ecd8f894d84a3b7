"""`python -m app.probe`: exit 0 if the service on this machine is alive. The image's health check."""

import os
import sys
from http.client import HTTPConnection, HTTPException

from app.paths import PATHS


def main() -> int:
    """Ask the service beside us."""
    connection = HTTPConnection("127.0.0.1", int(os.environ.get("SERVICE_PORT", "8080")), timeout=2)
    try:
        connection.request("GET", PATHS.live)
        return int(connection.getresponse().status != 200)
    except (HTTPException, OSError):
        return 1
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
