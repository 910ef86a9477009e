"""Who is let in, over HTTP: keys, scopes, sessions, rates, other sites' pages, headers."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from monolith.access.control import AccessControl
from monolith.access.key_file import KeyFile
from monolith.access.key_ring import KeyRing
from monolith.access.keys import new_key
from monolith.access.rates import TokenBuckets
from monolith.access.scopes import Scope, allows
from monolith.access.sessions import Sessions
from monolith.api.route_scopes import ROUTES, Special
from monolith.api.services import Limits
from tests.integration.test_api import HERE, START, problem
from tests.unit.api.harness import Api, running_api
from tests.unit.readmodels.story import VIDEO, whole_video

SITE = "https://app.example.org"


class Guarded:
    """An API that asks for keys, and its keys by scope."""

    def __init__(self, api: Api, file: KeyFile, ring: KeyRing) -> None:
        self.api = api
        self.file = file
        self.ring = ring
        self.keys: dict[Scope, str] = {}

    async def asked(self, method: str, path: str, key: str | None = None, **options: Any) -> httpx.Response:
        headers = options.pop("headers", {}) | ({"X-API-Key": key} if key else {})
        return await self.api.client.request(method, path, headers=headers, **options)

    async def key(self, *scopes: Scope, lifetime: timedelta | None = None) -> str:
        key, _ = self.file.add("Ada", scopes, lifetime)
        await self.ring.load()
        return key


@asynccontextmanager
async def guarded_api(
    folder: Path, *, limits: Limits | None = None, **changes: Any
) -> AsyncIterator[Guarded]:
    """`changes`: of AccessControl."""
    file = KeyFile(folder / "api-keys.json")
    ring = KeyRing(file)
    await ring.load()
    async with running_api(folder, limits=limits, access=AccessControl(**{"keys": ring, **changes})) as api:
        guarded = Guarded(api, file, ring)
        guarded.keys = {scope: await guarded.key(scope) for scope in Scope}
        watching = asyncio.create_task(ring.watch())
        try:
            yield guarded
        finally:
            watching.cancel()
            await asyncio.wait({watching})


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Guarded]:
    async with guarded_api(tmp_path) as running:
        yield running


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.02)


def filled(path: str) -> str:
    """A path that leads to the route, to nothing that exists."""
    path = path.replace("{video_id}", VIDEO).replace("{name}", "style.css")
    return re.sub(r"\{\w+\}", "7", path)


# Scopes


async def test_each_route_takes_the_keys_that_it_should(guarded: Guarded) -> None:
    for (method, path), need in ROUTES.items():
        without = await guarded.asked(method, filled(path))
        assert (without.status_code == 401) is (need is not Special.OPEN), (method, path)
        for scope, key in guarded.keys.items():
            answer = await guarded.asked(method, filled(path), key)
            if need is Special.PUBLISHER:
                problem(answer, 401)  # no key of the API lets a publisher in
            elif isinstance(need, Scope) and not allows([scope], need):
                body = problem(answer, 403)
                assert (
                    body["detail"] == f"this needs an API key with the scope {need}; yours (Ada) has {scope}"
                )
                assert f'scope="{need}"' in answer.headers["www-authenticate"]
            else:
                assert answer.status_code not in (401, 403), (method, path, scope)


async def test_a_key_may_have_several_scopes(guarded: Guarded) -> None:
    key = await guarded.key(Scope.READ, Scope.WRITE)
    assert (await guarded.asked("POST", "/analysis/start", key, json=START)).status_code == 201
    assert len((await guarded.asked("GET", "/analysis/videos?status=all", key)).json()) == 1


async def test_strangers_learn_nothing_of_what_exists(guarded: Guarded) -> None:
    await guarded.api.happened(*whole_video())
    known, unknown = await guarded.asked("GET", HERE), await guarded.asked("GET", f"/analysis/{'0' * 8}")
    nowhere = await guarded.asked("GET", "/nothing")
    details = {problem(answer, 401)["detail"] for answer in (known, unknown, nowhere)}
    assert len(details) == 1
    assert "`video-analysis keys create` makes one" in details.pop()
    assert (await guarded.asked("GET", "/nothing", guarded.keys[Scope.READ])).status_code == 404
    assert (await guarded.asked("PUT", "/metrics", guarded.keys[Scope.READ])).status_code == 405


async def test_the_document_says_how_to_get_in(guarded: Guarded) -> None:
    document = (await guarded.asked("GET", "/openapi.json")).json()
    assert document["components"]["securitySchemes"].keys() == {"bearer", "key", "session", "publisher"}
    start = document["paths"]["/analysis/start"]["post"]
    assert {"bearer": ["write"]} in start["security"]
    assert {"401", "403", "429"} <= start["responses"].keys()
    assert document["paths"]["/health/live"]["get"]["security"] == []


async def test_strangers_learn_that_something_is_wrong_but_not_what(guarded: Guarded) -> None:
    guarded.api.reasons["models"] = "the disk of /srv/video is full"
    answer = await guarded.asked("GET", "/health/ready")
    assert (answer.status_code, answer.json()["reasons"]) == (
        503,
        {"models": "an API key is needed to learn why"},
    )
    told = await guarded.asked("GET", "/health/ready", guarded.keys[Scope.WRITE])
    assert told.json()["reasons"] == {"models": "the disk of /srv/video is full"}


# Keys


@pytest.mark.parametrize("header", ["X-API-Key", "Authorization"])
async def test_a_key_is_sent_in_either_header(guarded: Guarded, header: str) -> None:
    key = guarded.keys[Scope.READ]
    value = f"Bearer {key}" if header == "Authorization" else key
    assert (await guarded.asked("GET", "/analysis/videos", headers={header: value})).status_code == 200


async def test_a_key_in_a_url_is_no_key(guarded: Guarded) -> None:
    key = guarded.keys[Scope.READ]
    for query in ("api_key", "key", "token", "access_token", "X-API-Key"):
        problem(await guarded.asked("GET", f"/analysis/videos?{query}={key}"), 401)
    host = f"http://{key}:{key}@127.0.0.1:{guarded.api.server.port}"
    problem(await guarded.asked("GET", f"{host}/analysis/videos"), 401)


async def test_a_wrong_key_is_told_why_and_never_repeated(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = new_key()
    mistyped = stranger[:20] + ("a" if stranger[20] != "a" else "b") + stranger[21:]
    expired = await guarded.key(Scope.READ, lifetime=timedelta(seconds=-1))
    reasons = {
        stranger: "not known here",
        mistyped: "mistyped or cut",
        "x": "not an API key",
        expired: "expired on",
    }
    for key, reason in reasons.items():
        answer = await guarded.asked("GET", "/analysis/videos", key)
        assert reason in problem(answer, 401)["detail"]
        assert answer.headers["www-authenticate"] == 'Bearer realm="video-analysis", error="invalid_token"'
        if len(key) > 1:
            assert key not in answer.text + caplog.text
    assert caplog.text.count("was refused") == len(reasons)


async def test_keys_come_and_go_without_a_restart(guarded: Guarded) -> None:
    key, record = guarded.file.add("", (Scope.READ,), None)

    async def let_in() -> bool:
        return (await guarded.asked("GET", "/analysis/videos", key)).status_code == 200

    async def shut_out() -> bool:
        try:
            return not await let_in()
        except httpx.RemoteProtocolError:  # the key went while this very answer was on its way
            return True

    await until(let_in)
    guarded.file.revoke(record.key_id)
    await until(shut_out)


async def test_a_stream_ends_in_order_when_its_key_is_revoked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with guarded_api(tmp_path, limits=Limits(heartbeat_seconds=0.1)) as guarded:
        await guarded.api.happened(*whole_video())
        key, record = guarded.file.add("", (Scope.READ,), None)
        await guarded.ring.load()
        request = guarded.api.client.stream("GET", f"{HERE}/events/stream", headers={"X-API-Key": key})
        async with request as answer, asyncio.timeout(60):
            assert answer.status_code == 200
            pieces = answer.aiter_raw()
            assert await anext(pieces)
            guarded.file.revoke(record.key_id)
            async for _ in pieces:
                pass
    assert "an answer was cut off: this API key was revoked" in caplog.text
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_document_whose_key_is_revoked_is_never_taken_for_whole(tmp_path: Path) -> None:
    async with guarded_api(tmp_path) as guarded:
        await guarded.api.happened(*whole_video(frames=20_000))
        key, record = guarded.file.add("", (Scope.READ,), None)
        await guarded.ring.load()
        request = guarded.api.client.stream("GET", f"{HERE}/results", headers={"X-API-Key": key})
        async with request as answer, asyncio.timeout(60):
            pieces = answer.aiter_raw(1000)
            assert await anext(pieces)
            guarded.file.revoke(record.key_id)
            await guarded.ring.load()
            with pytest.raises(httpx.RemoteProtocolError):
                async for _ in pieces:
                    pass


async def test_without_authentication_keys_are_not_looked_at(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        assert (await api.get("/analysis/videos", headers={"X-API-Key": "rubbish"})).status_code == 200
        body = (await api.get("/session")).json()
        assert body == {"authentication": False, "name": "", "scopes": ["read", "write", "admin"]}
        answer = await api.client.post("/session")
        assert (answer.status_code, "set-cookie" in answer.headers) == (200, False)


async def test_the_body_of_a_stranger_is_not_taken(guarded: Guarded) -> None:
    files = {"file": ("a.mp4", bytes(3 << 20))}
    problem(await guarded.asked("POST", "/analysis/upload", files=files, data={"modelsToRun": "x"}), 401)
    assert list(guarded.api.services.uploads.iterdir()) == []


# Sessions


async def signed_in(guarded: Guarded, scope: Scope = Scope.READ) -> httpx.Response:
    """The client has the cookie from now on."""
    return await guarded.asked("POST", "/session", guarded.keys[scope])


async def test_a_session_stands_for_its_key(guarded: Guarded) -> None:
    answer = await signed_in(guarded)
    assert answer.json() == {"authentication": True, "name": "Ada", "scopes": ["read"]}
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/", "Max-Age=28800"} <= set(cookie.split("; "))
    assert guarded.keys[Scope.READ] not in cookie
    assert (await guarded.asked("GET", "/analysis/videos")).status_code == 200
    problem(await guarded.asked("POST", "/analysis/start", json=START), 403)
    assert (await guarded.asked("GET", "/session")).json()["name"] == "Ada"


async def test_signing_out_ends_the_session_everywhere(guarded: Guarded) -> None:
    await signed_in(guarded)
    (cookie,) = guarded.api.client.cookies.jar
    answer = await guarded.asked("DELETE", "/session")
    assert answer.status_code == 204
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert len(guarded.api.client.cookies) == 0
    stolen = {"Cookie": f"{cookie.name}={cookie.value}"}
    body = problem(await guarded.asked("GET", "/analysis/videos", headers=stolen), 401)
    assert body["detail"] == "the session has ended; sign in again"


async def test_a_session_ends_with_its_key(guarded: Guarded) -> None:
    await signed_in(guarded)
    guarded.file.revoke(guarded.keys[Scope.READ][3:11])
    await guarded.ring.load()
    assert (
        problem(await guarded.asked("GET", "/analysis/videos"), 401)["detail"] == "this API key was revoked"
    )


async def test_a_session_expires(tmp_path: Path) -> None:
    now = 1e9
    async with guarded_api(tmp_path, sessions=Sessions(60, lambda: now)) as guarded:
        await signed_in(guarded)
        assert (await guarded.asked("GET", "/session")).status_code == 200
        now += 61
        problem(await guarded.asked("GET", "/session"), 401)


async def test_a_session_begins_no_other(guarded: Guarded) -> None:
    """A stolen cookie cannot be made to last."""
    await signed_in(guarded)
    assert "X-API-Key" in problem(await guarded.asked("POST", "/session"), 400)["detail"]


async def test_over_https_the_cookie_is_bound_to_it(tmp_path: Path) -> None:
    async with guarded_api(tmp_path, https=True) as guarded:
        cookie = (await signed_in(guarded)).headers["set-cookie"]
        assert cookie.startswith("__Host-")
        assert "Secure" in cookie.split("; ")
        assert "Domain" not in cookie


async def test_a_page_of_another_site_can_do_nothing_with_the_session(guarded: Guarded) -> None:
    await signed_in(guarded, Scope.ADMIN)
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        problem(await guarded.asked("POST", "/analysis/start", json=START, headers=headers), 403)
        problem(await guarded.asked("DELETE", "/session", headers=headers), 403)
        answer = await guarded.asked("GET", "/analysis/videos", headers=headers)
        assert "access-control-allow-origin" not in answer.headers


# Rates


async def test_a_client_that_asks_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    async with guarded_api(tmp_path, requests=TokenBuckets(0.01, 3)) as guarded:
        key, other = guarded.keys[Scope.READ], guarded.keys[Scope.ADMIN]
        statuses = [(await guarded.asked("GET", "/analysis/videos", key)).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        answer = await guarded.asked("GET", "/analysis/videos", key)
        assert "VIDEO_ANALYSIS_RATE_LIMIT" in problem(answer, 429)["detail"]
        assert 0 < int(answer.headers["retry-after"]) <= 100
        assert (await guarded.asked("GET", "/analysis/videos", other)).status_code == 200, "another key"
        assert (await guarded.asked("GET", "/health/live")).status_code == 200, "another client: an address"


async def test_the_command_line_of_this_machine_is_not_counted(tmp_path: Path) -> None:
    async with guarded_api(tmp_path, requests=TokenBuckets(0.01, 1)) as guarded:
        key = guarded.ring.issue_local()
        for _ in range(5):
            assert (await guarded.asked("GET", "/analysis/videos", key)).status_code == 200


async def test_wrong_keys_are_counted_strictly_and_right_ones_let_in(tmp_path: Path) -> None:
    async with guarded_api(tmp_path, failures=TokenBuckets(0.01, 2)) as guarded:
        wrong = [(await guarded.asked("GET", "/analysis/videos", new_key())).status_code for _ in range(3)]
        assert wrong == [401, 401, 429]
        assert (await guarded.asked("GET", "/analysis/videos", guarded.keys[Scope.READ])).status_code == 200
        metrics = (await guarded.asked("GET", "/metrics", guarded.keys[Scope.READ])).text
        assert 'video_analysis_access_refusals_total{reason="wrong key"} 2.0' in metrics
        assert 'video_analysis_access_refusals_total{reason="too often"} 1.0' in metrics


# Pages of other sites


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[Guarded]:
    """Its API may be used by the pages of SITE."""
    async with guarded_api(tmp_path, cors_origins=(SITE,)) as running:
        yield running


async def test_a_named_site_may_ask_before_it_asks(shared: Guarded) -> None:
    headers = {
        "Origin": SITE,
        "Access-Control-Request-Method": "DELETE",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    answer = await shared.asked("OPTIONS", HERE, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == SITE
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "DELETE" in answer.headers["access-control-allow-methods"]
    assert "authorization" in answer.headers["access-control-allow-headers"].lower()
    assert "Origin" in answer.headers["vary"]


async def test_a_named_site_reads_and_changes_with_a_key(shared: Guarded) -> None:
    headers = {"Origin": SITE, "Sec-Fetch-Site": "cross-site"}
    answer = await shared.asked(
        "POST", "/analysis/start", shared.keys[Scope.WRITE], json=START, headers=headers
    )
    assert answer.status_code == 201
    assert answer.headers["access-control-allow-origin"] == SITE
    assert "Location" in answer.headers["access-control-expose-headers"]
    refused = await shared.asked("GET", HERE, headers=headers)
    assert problem(refused, 401)
    assert refused.headers["access-control-allow-origin"] == SITE, "its page may read why"


@pytest.mark.parametrize(
    "origin", ["https://evil.example", f"{SITE}.evil.example", "http://app.example.org", "null"]
)
async def test_other_sites_may_not(shared: Guarded, origin: str) -> None:
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    answer = await shared.asked("OPTIONS", "/analysis/start", headers=headers)
    assert answer.status_code == 400
    assert "access-control-allow-origin" not in answer.headers
    key = shared.keys[Scope.ADMIN]
    problem(await shared.asked("POST", "/analysis/start", key, json=START, headers={"Origin": origin}), 403)
    reading = await shared.asked("GET", "/analysis/videos", key, headers={"Origin": origin})
    assert "access-control-allow-origin" not in reading.headers


# Headers


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/sign-in", "/web/style.css", "/analysis/videos", "/nothing", "/openapi.json"]
)
async def test_every_answer_says_what_browsers_may_not_do_with_it(guarded: Guarded, path: str) -> None:
    headers = (await guarded.asked("GET", path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "'unsafe-eval'" not in headers["content-security-policy"]
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "strict-transport-security" not in headers


async def test_private_answers_are_kept_nowhere(guarded: Guarded) -> None:
    answer = await guarded.asked("GET", "/analysis/videos", guarded.keys[Scope.READ])
    assert answer.headers["cache-control"] == "no-store"
    assert (await guarded.asked("GET", "/session")).headers["cache-control"] == "no-store"


async def test_browsers_are_bound_to_https_where_it_is_meant_to_last(tmp_path: Path) -> None:
    async with guarded_api(tmp_path, https=True, hsts=True) as guarded:
        answer = await guarded.asked("GET", "/health/live")
        assert answer.headers["strict-transport-security"] == "max-age=31536000"


async def test_pages_run_no_script_of_others(guarded: Guarded) -> None:
    for path in ("/", "/docs", "/live", "/publish", "/sign-in"):
        page = await guarded.asked("GET", path)
        assert page.headers["content-security-policy"].startswith("default-src 'self'; form-action 'self'")
        assert "<script>" not in page.text
        assert not re.search(r'\son\w+="|style="|(src|href)="https?:', page.text)
