"""Help for developers: `python -m app.dev credentials` mints throwaway ones, `hash` makes entries for the settings."""

import argparse
import getpass
import shlex
import sys
from typing import Any

import msgspec

from app.auth import hash_key, hash_password, kind_of, mint
from app.contract import METHODS, Contract
from app.main import load_service

Json = Any


def credentials(contract: Contract) -> dict[str, Json]:
    """An environment that accepts fresh credentials with every scope, and those credentials."""
    environment: dict[str, str] = {}
    schemes: dict[str, Json] = {}
    for name, scopes in used_schemes(contract).items():
        if kind_of(contract.security_schemes.get(name, {})) is None:
            continue  # nobody is let in by it
        added, schemes[name] = mint(name, contract.security_schemes[name], sorted(scopes))
        environment |= added
    return {"environment": environment, "schemes": schemes}


def env_file(minted: dict[str, Json]) -> str:
    """Minted credentials as an `.env`: settings for compose and shells, above them what a request has to carry."""
    carried = {name: _places(scheme) for name, scheme in minted["schemes"].items()}
    comments = [f"# {name}: {msgspec.json.encode(places).decode()}" for name, places in carried.items()]
    settings = [f"{name}={shlex.quote(value)}" for name, value in minted["environment"].items()]
    return "".join(f"{line}\n" for line in comments + settings)


def _places(scheme: dict[str, Json]) -> dict[str, Json]:
    return {place: scheme[place] for place in ("headers", "query", "cookies") if scheme[place]}


def used_schemes(contract: Contract) -> dict[str, set[str]]:
    """Schemes that some operation uses, with all their scopes."""
    found: dict[str, set[str]] = {}
    for path, item in contract.prepared["paths"].items():
        for method in METHODS:
            if method.lower() in item:
                for alternative in contract.operation(method, path).security:
                    for name, scopes in alternative.items():
                        found.setdefault(name, set()).update(scopes)
    return found


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m app.dev", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    minting = commands.add_parser("credentials", help="mint throwaway credentials; prints JSON")
    minting.add_argument("--env", action="store_true", help="print an .env file instead, for `make up`")
    hashing = commands.add_parser("hash", help="hash a password or key, read from the terminal")
    hashing.add_argument("kind", choices=["password", "key"])
    options = parser.parse_args(arguments)
    if options.command == "credentials":
        found = credentials(Contract(msgspec.json.decode(load_service().document)))
        sys.stdout.write(env_file(found) if options.env else msgspec.json.encode(found).decode() + "\n")
    else:
        secret = getpass.getpass("secret: ")
        sys.stdout.write((hash_password if options.kind == "password" else hash_key)(secret) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
