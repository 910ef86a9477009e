"""The running program beyond loopback: who is let in, what is kept where, and that no secret gets into the log."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from monolith.access.local import LocalAccess, find
from monolith.access.self_signed import keep_self_signed
from monolith.access.tls import client_context
from tests.program import Server, free_port, until_ended, upload
from tests.videos import Recipe, make_video

COLORS: Final = ("color_detection",)
SECRET: Final = re.compile(r"va_[a-z2-7]{8}_[a-z2-7]{39}")


class GuardedServer(Server):
    """Listens on all addresses, by HTTPS with its own certificate, and asks for keys; its log tells all that it can."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder, HOST="0.0.0.0", TLS_SELF_SIGNED="true", WORKERS="1", LOG_LEVEL="debug", LOG_FORMAT="json",
            ACCESS_LOG="on",
        )  # fmt: skip
        self.key, self.key_id = self.created("--name", "tests", "--scope", "read", "--scope", "write")
        self.reader, self.reader_id = self.created("--name", "reader", "--scope", "read")

    @property
    def url(self) -> str:
        return super().url.replace("http:", "https:")

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def local(self) -> LocalAccess:
        found = find(self.data)
        assert found is not None
        return found

    def client(self, key: str | None = None) -> httpx.AsyncClient:
        """Trusts the server's certificate alone; anything while the server has not published it."""
        published = find(self.data)
        verify: ssl.SSLContext | bool = client_context(published.certificate) if published else False
        headers = {"X-API-Key": key} if key else {}
        return httpx.AsyncClient(base_url=self.url, timeout=60, verify=verify, headers=headers)

    def created(self, *options: str) -> tuple[str, str]:
        """A new key and its id."""
        made = json.loads(command("keys", "create", "--json", *options, folder=self.folder).stdout)
        return made["key"], made["key_id"]


def command(*arguments: str, folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """`video-analysis ARGUMENTS` on the data directory in `folder`."""
    variables = {"DATA_DIR": str(folder / "data"), "PORT": str(free_port()), "WORKERS": "1", **settings}
    environment = {**os.environ, **{f"VIDEO_ANALYSIS_{name}": value for name, value in variables.items()}}
    return subprocess.run(
        [sys.executable, "-m", "monolith", *arguments],
        env=environment, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedServer]:
    server = GuardedServer(tmp_path_factory.mktemp("guarded"))
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())
    assert find(server.data) is None, "the key of this machine goes with the server"


# Starts that are refused


def test_it_does_not_listen_beyond_loopback_without_a_key(tmp_path: Path) -> None:
    ended = command("serve", "--host", "0.0.0.0", folder=tmp_path)
    assert ended.returncode == 4
    assert "others than this machine can reach 0.0.0.0, so requests need an API key" in ended.stderr
    assert f"`video-analysis keys create --data-dir {tmp_path / 'data'}`" in ended.stderr
    assert "VIDEO_ANALYSIS_AUTH=off" in ended.stderr
    assert not (tmp_path / "data" / "events.db").exists(), "nothing was begun"


def test_revoked_and_expired_keys_are_none(tmp_path: Path) -> None:
    key_id = json.loads(command("keys", "create", "--json", folder=tmp_path).stdout)["key_id"]
    assert command("keys", "revoke", key_id, folder=tmp_path).returncode == 0
    assert command("serve", "--host", "0.0.0.0", folder=tmp_path).returncode == 4


def test_a_damaged_key_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("{")
    ended = command("serve", "--auth", "on", folder=tmp_path, API_KEYS_FILE=str(tmp_path / "keys.json"))
    assert ended.returncode == 4
    assert f"{tmp_path / 'keys.json'} does not hold API keys" in ended.stderr


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--tls-certificate", "{own}/certificate.pem"], "set VIDEO_ANALYSIS_TLS_KEY, too"),
        (["--tls-key", "{own}/key.pem"], "set VIDEO_ANALYSIS_TLS_CERTIFICATE, too"),
        (["--tls-certificate", "{own}/certificate.pem", "--tls-key", "{other}/key.pem"], "is not the key of"),
        (
            ["--tls-certificate", "{own}/none.pem", "--tls-key", "{own}/key.pem"],
            "cannot be read: No such file",
        ),
        (
            ["--tls-self-signed", "--tls-certificate", "{own}/certificate.pem", "--tls-key", "{own}/key.pem"],
            "take one of the two",
        ),
    ],
)
def test_certificates_that_cannot_be_used_end_the_start(
    tmp_path: Path, options: list[str], text: str
) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    for folder in (own, other):
        keep_self_signed(folder, ["localhost"])
    ended = command("serve", *(option.format(own=own, other=other) for option in options), folder=tmp_path)
    assert ended.returncode == 4
    assert text in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_who_wants_no_keys_beyond_loopback_is_warned(tmp_path: Path) -> None:
    async with Server(tmp_path, HOST="0.0.0.0", AUTH="off", WORKERS="1") as server, server.client() as client:
        assert (await client.get("/analysis/videos")).status_code == 200
        assert "VIDEO_ANALYSIS_AUTH is off and the server listens on 0.0.0.0: EVERYONE" in server.output


# A server that others can reach


async def test_strangers_are_kept_out_and_keys_let_in(guarded: GuardedServer, tmp_path: Path) -> None:
    async with guarded.client() as stranger:
        assert (await stranger.get("/analysis/videos")).status_code == 401
        assert (await stranger.get("/health/ready")).status_code == 200
        assert (await stranger.get("/")).status_code == 200
    async with guarded.client(guarded.key) as client:
        video_id = await upload(client, make_video(tmp_path, Recipe(frames=4)), models=COLORS)
        assert (await until_ended(client, video_id))["status"] == "Completed"
    async with guarded.client(guarded.reader) as reader:
        assert (await reader.get(f"/analysis/{video_id}/frame/2")).status_code == 200
        assert (await reader.delete(f"/analysis/{video_id}")).status_code == 403
        assert (await reader.get(f"/analysis/{video_id}")).status_code == 200


async def test_a_new_key_is_let_in_and_a_revoked_one_is_not(guarded: GuardedServer) -> None:
    key, key_id = await asyncio.to_thread(guarded.created, "--scope", "read")

    async def until_answered(status: int) -> None:
        async with guarded.client(key) as client, asyncio.timeout(60):
            while await answered(client) != status:
                await asyncio.sleep(0.05)

    async def answered(client: httpx.AsyncClient) -> int | None:
        try:
            return (await client.get("/analysis/videos")).status_code
        except httpx.RemoteProtocolError:  # the key went while this very answer was on its way
            return None

    await until_answered(200)
    assert command("keys", "revoke", key_id, folder=guarded.folder).returncode == 0
    await until_answered(401)
    listed = command("keys", "list", "--json", folder=guarded.folder).stdout
    assert {entry["key_id"]: entry["state"] for entry in json.loads(listed)}[key_id] == "revoked"
    assert not SECRET.search(listed)
    assert "digest" not in listed


async def test_the_page_works_with_a_cookie_where_it_can_send_no_header(guarded: GuardedServer) -> None:
    async with guarded.client() as browser:
        answer = await browser.post("/session", headers={"X-API-Key": guarded.reader})
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-video-analysis-session=")
        assert {"Secure", "HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
        assert (await browser.get("/analysis/videos")).status_code == 200
        assert (await browser.delete("/session")).status_code == 204
        assert (await browser.get("/analysis/videos")).status_code == 401


async def test_the_command_line_of_this_machine_goes_on_working(
    guarded: GuardedServer, tmp_path: Path
) -> None:
    clip = make_video(tmp_path, Recipe(frames=3))
    done = await asyncio.to_thread(
        command, "analyze", str(clip), "--models", "color", "--json", folder=guarded.folder
    )
    assert done.returncode == 0, done.stderr
    assert f"working through the server at {guarded.url}" in done.stderr
    (video,) = json.loads(done.stdout)["videos"]
    assert video["analysis"]["status"] == "Completed"


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("reader", "this needs an API key with the scope write; yours (reader) has read"),
        ("va_wrong", "VIDEO_ANALYSIS_API_KEY: this is not an API key of this program"),
    ],
)
def test_the_command_line_sends_the_key_of_the_settings(
    guarded: GuardedServer, tmp_path: Path, key: str, text: str
) -> None:
    sent = guarded.reader if key == "reader" else key
    clip = make_video(tmp_path, Recipe(frames=3))
    done = command("analyze", str(clip), "--models", "color", folder=guarded.folder, API_KEY=sent)
    assert done.returncode == 4
    assert text in " ".join(done.stderr.split())
    assert sent not in done.stdout + done.stderr


def test_the_settings_do_not_show_the_key(guarded: GuardedServer) -> None:
    for options in ([], ["--json"]):
        shown = command("settings", *options, folder=guarded.folder, API_KEY=guarded.key)
        assert shown.returncode == 0
        assert guarded.key not in shown.stdout + shown.stderr


def test_what_opens_the_door_is_kept_from_other_users(guarded: GuardedServer) -> None:
    for name in ("api-keys.json", "local-access.json", "tls/key.pem"):
        assert stat.S_IMODE((guarded.data / name).stat().st_mode) == 0o600, name
    assert stat.S_IMODE(guarded.data.stat().st_mode) == 0o700
    kept = (guarded.data / "api-keys.json").read_text()
    assert not SECRET.search(kept)


async def test_plain_http_is_shown_the_way(guarded: GuardedServer) -> None:
    plain = guarded.url.replace("https:", "http:")
    async with httpx.AsyncClient(timeout=60) as client:
        answer = await client.get(f"{plain}/docs")
    assert (answer.status_code, answer.headers["location"]) == (308, f"{guarded.url}/docs")


async def test_the_certificate_is_shown_so_that_it_can_be_compared(guarded: GuardedServer) -> None:
    der = ssl.PEM_cert_to_DER_cert(guarded.local.certificate)
    (shown,) = set(re.findall(r"SHA-256 ((?:[0-9A-F]{2}:){31}[0-9A-F]{2})", guarded.output))
    assert shown == hashlib.sha256(der).digest().hex(":").upper()


async def test_no_secret_gets_into_the_log(guarded: GuardedServer) -> None:
    """However it is sent, right or wrong, and whatever comes of it. The log is at its most talkative."""
    secrets = [guarded.key, guarded.reader, guarded.local.token]
    wrong = guarded.key[:-1] + ("a" if guarded.key[-1] != "a" else "b")
    async with guarded.client() as client:
        for key in (*secrets, wrong):
            attempts: list[dict[str, Any]] = [
                {"headers": {"X-API-Key": key}},
                {"headers": {"Authorization": f"Bearer {key}"}},
                {"headers": {"Authorization": f"Basic {key}"}},
                {"params": {"key": key}},
                {"cookies": {"__Host-video-analysis-session": key}},
            ]
            for attempt in attempts:
                client.cookies = httpx.Cookies(attempt.pop("cookies", None))
                for path in ("/analysis/videos", "/analysis/nothing", "/session"):
                    answer = await client.get(path, **attempt)
                    assert key not in answer.text
        client.cookies.clear()
        begun = await client.post("/session", headers={"X-API-Key": guarded.reader})
        cookie = client.cookies["__Host-video-analysis-session"]
        await client.get("/analysis/nothing")
        await client.delete("/session")
    assert begun.status_code == 200
    log = guarded.output
    assert '"route": "/session"' in log or '"/session"' in log
    for secret in (*secrets, wrong, cookie, cookie.rpartition(".")[2]):
        assert secret not in log
    assert not SECRET.search(log)
    kept = json.loads((guarded.data / "api-keys.json").read_text())["keys"]
    assert not any(entry["digest"] in log for entry in kept)
