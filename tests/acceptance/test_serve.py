"""`backwright serve`: a project runs here, and nothing is left of it."""

import asyncio
import shlex
import signal
import socket
from pathlib import Path

import httpx
import pytest

from tests.acceptance.stranger import command, until_none_left
from tests.golden.weaving import CANONICAL

pytestmark = pytest.mark.acceptance


@pytest.fixture
async def project(scratch: Path) -> Path:
    """The canonical document, compiled."""
    compiling = await command(scratch, "compile", str(CANONICAL), "--out", "project")
    _, err = await asyncio.wait_for(compiling.communicate(), 60)
    assert compiling.returncode == 0, err.decode()
    return scratch / "project"


async def test_the_printed_call_works_and_sigterm_leaves_nothing(scratch: Path, project: Path) -> None:
    """`ready URL` on stdout, a call with a credential on stderr; the end of a server is no failure."""
    serving = await command(scratch, "serve", project.name, "--port", "0")
    assert serving.stdout is not None
    assert serving.stderr is not None
    word, url = (await asyncio.wait_for(serving.stdout.readline(), 120)).decode().split()
    call: list[str] = []
    while not call or call[0] != "curl":
        line = await asyncio.wait_for(serving.stderr.readline(), 10)
        assert line
        call = shlex.split(line.decode())

    headers = dict(call[at + 1].split(": ", 1) for at, flag in enumerate(call) if flag == "-H")
    async with httpx.AsyncClient(trust_env=False) as http:
        answers = [
            await http.get(f"{url}/health/ready"),
            await http.get(call[2], headers=headers),
            await http.get(call[2]),
        ]

    assert word == "ready"
    assert [answer.status_code for answer in answers] == [200, 200, 401]
    serving.send_signal(signal.SIGTERM)
    await asyncio.wait_for(serving.communicate(), 60)
    assert serving.returncode == 0
    await until_none_left(scratch)


async def test_a_taken_port_is_the_environments_fault(scratch: Path, project: Path) -> None:
    """Exit code 3, before anybody waits for a database."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        serving = await command(scratch, "serve", project.name, "--port", port)
        _, err = await asyncio.wait_for(serving.communicate(), 120)

    assert serving.returncode == 3
    assert f"port {port}" in err.decode()
    await until_none_left(scratch)
