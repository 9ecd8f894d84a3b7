"""`python -m app`: serve. Ends with 2 and one line when the configuration is wrong."""

import signal
import sys

import uvicorn
from pydantic import ValidationError

from app.auth import ConfigurationError
from app.main import create_app, load_service
from app.server import protocol_for
from app.settings import Settings
from app.telemetry import configure_logs


def main() -> int:
    """Serve until SIGTERM, then let open requests finish."""
    try:
        settings = Settings()  # pyright: ignore[reportCallIssue]
        configure_logs(settings)
        app = create_app(settings, load_service())
    except ValidationError as exc:
        for error in exc.errors():
            name = "SERVICE_" + "_".join(str(part) for part in error["loc"]).upper()
            sys.stderr.write(f"configuration: {name}: {error['msg']}\n")
        return 2
    except ConfigurationError as exc:
        sys.stderr.write(f"configuration: {exc}\n")
        return 2
    # uvicorn drains, then raises the signal again: with this handler the process ends with 0.
    signal.signal(signal.SIGTERM, lambda *_: None)
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        http=protocol_for(settings),
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=settings.connections_max,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.drain_s,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
