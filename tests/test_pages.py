"""Pages and static files as the server hands them out."""

from __future__ import annotations

import re
import shutil
from urllib.parse import parse_qs, urlsplit

import pytest

from amiga_ws.handlers import pages
from amiga_ws.handlers.guard import SECURITY_HEADERS
from amiga_ws.handlers.pages import SERVED, STATIC

PAGES = ("/admin", "/", "/login", "/websocket-test")


async def page(server, path):
    return await server.ask(path, {"Cookie": server.session(scope="metrics:read admin")})


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_needs_nothing_its_policy_forbids(server, path):
    """No inline script, style or handler, and nothing from elsewhere: a strict policy would break it."""
    reply = await page(server, path)
    assert reply.status == 200
    assert reply.header("Content-Type") == "text/html; charset=UTF-8"
    policy = reply.header("Content-Security-Policy")
    assert policy == SECURITY_HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    html = reply.body.decode()
    assert not re.search(r"<script(?![^>]*\ssrc=)", html)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", html)
    assert not re.findall(r"(?:src|href|action)=\"(?:https?:)?//", html)
    assert not re.search(r"\{\{|\{%", html), "a template tag was left over"


@pytest.mark.parametrize("path", PAGES)
async def test_everything_a_page_links_to_is_there(server, path):
    html = (await page(server, path)).body.decode()
    linked = set(re.findall(r"(?:src|href)=\"(/[^\"#?]*)", html))
    assert any(link.startswith("/static/") for link in linked)
    for link in linked:
        reply = await page(server, link)
        assert reply.status == 200, link


async def test_every_static_file_is_served_with_its_type_and_revalidated(server):
    types = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    found = [file for file in STATIC.iterdir() if file.suffix in SERVED]
    assert found
    for file in found:
        reply = await server.ask(f"/static/{file.name}")
        assert reply.status == 200, file.name
        assert reply.body == file.read_bytes(), file.name
        assert reply.header("Cache-Control") == "no-cache"
        if file.suffix in types:
            assert reply.header("Content-Type").startswith(types[file.suffix])
        again = await server.ask(f"/static/{file.name}", {"If-None-Match": reply.header("Etag")})
        assert (again.status, again.body) == (304, b"")


async def test_the_dashboard_is_one_bundle_of_the_sources_beside_it(server, monkeypatch, tmp_path):
    html = (await page(server, "/")).body.decode()
    scripts = re.findall(r'(?:src|href)="/static/([^"]+\.js)"', html)
    assert "built-dashboard.js" in scripts
    assert "dashboard.js" not in scripts
    written = sum(file.stat().st_size for file in STATIC.glob("*.js") if file.name in bundled())
    served = sum((STATIC / name).stat().st_size for name in scripts)
    assert served < 0.6 * written
    copy = shutil.copytree(STATIC, tmp_path / "static")
    monkeypatch.setattr(pages, "STATIC", copy)
    (copy / "tiles.js").write_text((copy / "tiles.js").read_text("utf-8") + "\n// edited\n", "utf-8")
    html = (await page(server, "/")).body.decode()
    assert "built-" not in html
    assert 'src="/static/dashboard.js"' in html
    assert 'href="/static/dashboard.css"' in html


def bundled():
    """All that the dashboard imports, and what that imports."""
    found, names = set(), ["dashboard.js"]
    while names:
        found.add(name := names.pop())
        imported = re.findall(r'from "\./([^"]+)"', (STATIC / name).read_text("utf-8"))
        names += [each for each in imported if each not in found]
    return found


async def test_modules_import_only_what_is_there(server):
    for file in STATIC.glob("*.js"):
        for name in re.findall(r"(?:from|import\()\s*\"(\./[^\"]+)\"", file.read_text("utf-8")):
            assert (STATIC / name).is_file(), f"{file.name} imports {name}"


async def test_an_installation_without_the_charts_library_says_so_in_the_page(server, monkeypatch, tmp_path):
    html = (await page(server, "/")).body.decode()
    assert "/static/uplot.css" in html
    assert "data-plot" not in html
    monkeypatch.setattr(pages, "STATIC", tmp_path)
    html = (await page(server, "/")).body.decode()
    assert "uplot" not in html
    assert (
        '<section class="panel" id="charts" aria-labelledby="charts-title" data-state="loading" data-plot="missing">'
        in html
    )


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static/..%5capp.py",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/....//app.py",
        "/static/client.js/../../app.py",
        "/static/client.js%00.css",
        "/static/",
        "/static/.",
        "/static/__init__.py",
        "/static/%ff",
        "/static/nothing.js",
    ],
)
async def test_nothing_outside_the_static_folder_is_served(server, path):
    reply = await server.ask(path)
    assert reply.status in (400, 403, 404)
    assert set(reply.json) == {"error", "code", "ref"}
    assert b"import" not in reply.body
    assert b"root:" not in reply.body


async def test_a_link_out_of_the_static_folder_is_not_followed(server, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    link = STATIC / "test-link.txt"
    link.symlink_to(secret)
    try:
        assert (await server.ask("/static/test-link.txt")).status == 404
    finally:
        link.unlink()


async def test_the_favicon_is_there_for_get_and_head(server):
    assert (await server.ask("/favicon.ico")).header("Content-Type").startswith("image/svg+xml")
    reply = await server.ask("/favicon.ico", method="HEAD")
    assert (reply.status, reply.body) == (200, b"")


async def test_a_page_without_a_session_leads_to_the_sign_in_page_and_back(server):
    for path in ("/", "/websocket-test"):
        reply = await server.ask(f"{path}?hours=48&next=//evil.example%0d%0aX:1")
        assert reply.status == 303
        there = urlsplit(reply.header("Location"))
        assert (there.scheme, there.netloc, there.path) == ("", "", "/login")
        assert parse_qs(there.query) == {"next": [f"{path}?hours=48&next=//evil.example%0d%0aX:1"]}
        assert reply.header("Cache-Control") == "no-store"


@pytest.mark.parametrize(("life", "words"), [("2m", "2 minutes"), ("1h", "1 hour"), ("90s", "90 seconds")])
async def test_the_sign_in_page_says_how_long_a_link_works(start, life, words):
    server = await start(f"auth.login_ttl={life}")
    assert f"it works once, within {words}<" in (await server.ask("/login")).body.decode()


async def test_a_bearer_token_opens_no_page(server):
    """Pages are for browsers, which sign in."""
    assert (await server.ask_as(server.token(), "/")).status == 303


async def test_what_is_in_the_address_is_never_part_of_a_page(server):
    reply = await server.ask("/login?next=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    assert reply.status == 200
    assert b"alert(1)" not in reply.body
