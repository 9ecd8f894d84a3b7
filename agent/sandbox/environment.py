"""The environment of a child: an allow-list. What is not named here, no child sees."""

import os
from collections.abc import Mapping
from pathlib import Path

from agent.sandbox.accounts import Account

PATH = "/usr/local/bin:/usr/bin:/bin"
CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
INSTALLER_NAMES = frozenset((*CERTIFICATES, "SSL_CERT_DIR", *PROXIES, *(name.lower() for name in PROXIES)))
INSTALLER_PREFIXES = ("PIP_", "UV_")
# Kept away even from installers: credentials for publishing, and what would change where or for whom they install.
REFUSED_PREFIXES = (
    "UV_PUBLISH",
    "UV_PYTHON",
    "UV_PROJECT",
    "UV_ENV_FILE",
    "UV_WORKING",
    "UV_CACHE",
    "UV_TOOL",
    "UV_NO_CACHE",
)
# What says which engine is meant, and where a rootless one keeps its images. No credentials by value.
ENGINE_NAMES = frozenset(
    ("PATH", "HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "CONTAINER_HOST", "CONTAINER_CONNECTION",
     "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_API_VERSION",
     "DOCKER_BUILDKIT", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "CONTAINERS_REGISTRIES_CONF")
)  # fmt: skip
CONFIGURATIONS = (("UV_CONFIG_FILE", "uv/uv.toml"), ("PIP_CONFIG_FILE", "pip/pip.conf"))
LARGEST_COPY_BYTES = 8 * 1024**2


def base(home: Path) -> dict[str, str]:
    """What every child gets."""
    return {"PATH": PATH, "LANG": "C.UTF-8", "HOME": str(home), "TMPDIR": str(home / "tmp")}


def engine(own: Mapping[str, str]) -> dict[str, str]:
    """What a client of the container engine gets on top: the user's choice of it, from `own` (our environment)."""
    return {name: value for name, value in own.items() if name in ENGINE_NAMES} | {"BUILDKIT_PROGRESS": "plain"}


def installer(
    own: Mapping[str, str], home: Path, package_cache: Path, account: Account
) -> tuple[dict[str, str], dict[str, str]]:
    """What an installer gets on top, and text files for its home (by relative path).

    Index, proxy and certificate settings of `own` (our environment) are kept. Configuration of the user (`uv.toml`,
    `pip.conf`) moves into the temporary home, and so do certificate files that the account cannot read.
    """
    kept = {
        name: value
        for name, value in own.items()
        if name in INSTALLER_NAMES or (name.startswith(INSTALLER_PREFIXES) and not name.startswith(REFUSED_PREFIXES))
    }
    files: dict[str, str] = {}
    for name, place in CONFIGURATIONS:
        if (text := _configuration(own, name, place)) is not None:
            files[f".config/{place}"] = text
            kept.pop(name, None)
    for name in CERTIFICATES:
        path = Path(kept.get(name, ""))
        if name in kept and path.is_file() and not account.reaches(path):
            files[f".certificates/{name}.pem"] = _read(path)
            kept[name] = str(home / ".certificates" / f"{name}.pem")
    kept.update(UV_CACHE_DIR=str(package_cache), UV_NO_PROGRESS="1")
    # uv trusts roots of its own unless it is told otherwise, and then fails behind a company proxy. The older name too.
    kept.setdefault("UV_SYSTEM_CERTS", "true")
    kept.setdefault("UV_NATIVE_TLS", "true")
    _translate_index(kept)
    return kept, files


def _translate_index(kept: dict[str, str]) -> None:
    """uv does not read pip's settings: a mirror that is known to pip only serves uv as well."""
    pairs = (
        ("PIP_INDEX_URL", ("UV_DEFAULT_INDEX", "UV_INDEX_URL")),
        ("PIP_EXTRA_INDEX_URL", ("UV_INDEX", "UV_EXTRA_INDEX_URL")),
        ("PIP_FIND_LINKS", ("UV_FIND_LINKS",)),
    )
    for pip, names in pairs:
        if kept.get(pip) and not any(name in kept for name in names):
            separator = "," if pip == "PIP_FIND_LINKS" else " "
            kept[names[0]] = separator.join(kept[pip].split())


def _configuration(own: Mapping[str, str], name: str, place: str) -> str | None:
    """The user's configuration file, if there is one that we can read."""
    home = Path(own["HOME"]) if own.get("HOME") else None
    folder = own.get("XDG_CONFIG_HOME") or (home and home / ".config")
    candidates = [Path(own[name])] if own.get(name) else [Path(folder) / place] if folder else []
    if not own.get(name) and home and place.startswith("pip/"):
        candidates.append(home / ".pip" / "pip.conf")
    for path in candidates:
        if path.is_file() and os.access(path, os.R_OK):
            return _read(path)
    return None


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(LARGEST_COPY_BYTES).decode("utf-8", errors="replace")
