"""From our settings to the arguments that aiokafka's clients share."""

import ssl
from typing import Any

from agent.errors import EnvironmentUnfit
from agent.settings import KafkaSettings


def connection(settings: KafkaSettings) -> dict[str, Any]:
    """Arguments of consumer, producer and administrator. Raises EnvironmentUnfit where TLS files cannot be read."""
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "client_id": settings.client_id,
        "request_timeout_ms": settings.request_timeout_ms,
        "security_protocol": settings.security_protocol,
    }
    if "SSL" in settings.security_protocol:
        arguments["ssl_context"] = _tls(settings)
    if settings.security_protocol.startswith("SASL"):
        password = settings.sasl_password
        arguments |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": password.get_secret_value() if password else None,
        }
    return arguments


def _tls(settings: KafkaSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ssl_ca_file)
        if settings.ssl_cert_file is not None:
            context.load_cert_chain(settings.ssl_cert_file, settings.ssl_key_file)
    except OSError as exc:
        raise EnvironmentUnfit(
            f"cannot read the TLS files of the bus: {exc}",
            remedy="check BACKWRIGHT_KAFKA__SSL_CA_FILE, SSL_CERT_FILE and SSL_KEY_FILE",
        ) from exc
    return context
