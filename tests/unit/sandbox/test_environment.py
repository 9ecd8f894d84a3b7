"""What an installer, and a client of the container engine, keep of our environment."""

from pathlib import Path

from agent.sandbox import environment
from agent.sandbox.accounts import Account

HOME = Path("/home-of-the-child")
US = Account("us")


def installer(own: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Shortened."""
    return environment.installer(own, HOME, Path("/cache"), US)


def test_index_proxy_and_certificates_are_kept_and_secrets_are_not() -> None:
    """Behind a company proxy an installer without them cannot work."""
    kept, _files = installer(
        {
            "PIP_INDEX_URL": "https://mirror/simple",
            "UV_INDEX_URL": "https://mirror/simple",
            "https_proxy": "http://proxy:1",
            "NO_PROXY": "localhost",
            "SSL_CERT_FILE": "/etc/ssl/ca.pem",
            "UV_PUBLISH_TOKEN": "secret",
            "UV_PYTHON": "3.9",
            "UV_CACHE_DIR": "/elsewhere",
            "OPENAI_API_KEY": "secret",
            "HOME": "/nowhere",
            "LD_PRELOAD": "x",
        }
    )

    assert kept["PIP_INDEX_URL"] == kept["UV_INDEX_URL"] == "https://mirror/simple"
    assert kept["https_proxy"] == "http://proxy:1"
    assert kept["SSL_CERT_FILE"] == "/etc/ssl/ca.pem"
    assert kept["UV_CACHE_DIR"] == "/cache"
    assert "secret" not in kept.values()
    assert not {"UV_PYTHON", "HOME", "LD_PRELOAD"} & set(kept)


def test_settings_for_pip_serve_uv_as_well() -> None:
    """uv does not read pip's variables; a mirror that is configured once must be enough."""
    kept, _files = installer({"PIP_INDEX_URL": "https://a", "PIP_EXTRA_INDEX_URL": "https://b https://c"})

    assert kept["UV_DEFAULT_INDEX"] == "https://a"
    assert kept["UV_INDEX"] == "https://b https://c"
    assert "UV_DEFAULT_INDEX" not in installer({"PIP_INDEX_URL": "https://a", "UV_INDEX_URL": "https://d"})[0]


def test_configuration_files_move_into_the_temporary_home(tmp_path: Path) -> None:
    """The child has another HOME, and may not be able to read ours."""
    (tmp_path / ".config/uv").mkdir(parents=True)
    (tmp_path / ".config/uv/uv.toml").write_text("offline = true\n")
    (tmp_path / "my-pip.conf").write_text("[global]\n")

    kept, files = installer({"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(tmp_path / "my-pip.conf")})

    assert files == {".config/uv/uv.toml": "offline = true\n", ".config/pip/pip.conf": "[global]\n"}
    assert "PIP_CONFIG_FILE" not in kept


def test_certificates_that_the_user_cannot_read_are_copied(tmp_path: Path) -> None:
    """As root our certificates may lie below /root."""
    bundle = tmp_path / "ca.pem"
    bundle.write_text("certificate")
    bundle.chmod(0o600)

    kept, files = environment.installer(
        {"SSL_CERT_FILE": str(bundle)}, HOME, Path("/cache"), Account("stranger", 54321, 54321)
    )

    assert files == {".certificates/SSL_CERT_FILE.pem": "certificate"}
    assert kept["SSL_CERT_FILE"] == str(HOME / ".certificates/SSL_CERT_FILE.pem")


def test_a_client_of_the_engine_gets_the_users_choice_of_it_and_no_secrets() -> None:
    """A rootless engine is found by it."""
    chosen = {"DOCKER_HOST": "unix:///run/user/7/docker.sock", "XDG_RUNTIME_DIR": "/run/user/7", "HOME": "/ours"}

    kept = environment.engine({**chosen, "DOCKER_AUTH_CONFIG": "secret", "OPENAI_API_KEY": "secret", "LD_PRELOAD": "x"})

    assert kept == {**chosen, "BUILDKIT_PROGRESS": "plain"}
