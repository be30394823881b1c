"""Every route there is; each passes the guard (tests/test_guard.py walks this table)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from amiga_ws.handlers import admin, history, lists, openapi, pages, prometheus, rest
from amiga_ws.handlers.guard import Guarded, Services, Unknown, log_request
from amiga_ws.handlers.operations import answers
from amiga_ws.handlers.pacing import PacedApplication
from amiga_ws.handlers.rest import Api
from amiga_ws.handlers.sse import MetricsEvents
from amiga_ws.handlers.websocket import MetricsSocket


class Document(Api):
    """`GET /openapi.json`: this interface, for machines."""

    @answers(dict[str, Any])
    def get(self) -> None:
        self.reply_encoded(_document())


# What is given to a handler beside the services; groups in a pattern are named. They are tried in this order:
# streams first, for after a restart all viewers knock at once.
ROUTES: list[tuple[str, type[Guarded], dict[str, str]]] = [
    (r"/ws", MetricsSocket, {}),
    (r"/api/stream/metrics", MetricsEvents, {}),
    (r"/", pages.Page, {"template": "dashboard.html"}),
    (r"/login", pages.LoginPage, {"template": "login.html"}),
    (r"/websocket-test", pages.Page, {"template": "websocket_dashboard.html"}),
    (r"/admin", pages.AdminPage, {"template": "admin.html"}),
    (r"/static/(.*)", pages.Static, {}),
    (r"/favicon\.ico", pages.Favicon, {}),
    (r"/health", rest.Health, {}),
    (r"/ready", rest.Ready, {}),
    (r"/api/metrics/overview", rest.Overview, {}),
    (r"/api/metrics/timeseries", history.Timeseries, {}),
    (r"/api/metrics/tools", rest.ToolsOnce, {}),
    (r"/api/metrics/tasks", rest.TasksOnce, {}),
    (r"/api/metrics/system", rest.SystemOnce, {}),
    (r"/api/tasks", lists.Tasks, {}),
    (r"/api/tasks/(?P<task_id>[^/]+)", lists.OneTask, {}),
    (r"/api/sessions", lists.Sessions, {}),
    (r"/api/sessions/(?P<session_id>[^/]+)", lists.OneSession, {}),
    (r"/api/export/tasks", lists.ExportTasks, {}),
    (r"/api/session", rest.Session, {}),
    (r"/api/session/renew", rest.SessionRenewal, {}),
    (r"/api/admin/connections", admin.Connections, {}),
    (r"/api/admin/connections/(?P<client_id>[0-9a-f]{16})", admin.OneConnection, {}),
    (r"/api/admin/revocations", admin.Revocations, {}),
    (r"/api/admin/refusals", admin.Refusals, {}),
    (r"/metrics", prometheus.Metrics, {}),
    (r"/openapi\.json", Document, {}),
]


def missing_files() -> list[Path]:
    """What the pages are made of and is not there: an installation that was cut short."""
    wanted = [pages.templates_dir() / more["template"] for _, _, more in ROUTES if "template" in more]
    wanted += [pages.STATIC / name for name in ("base.css", "client.js")]
    return [file for file in wanted if not file.is_file()]


@cache
def _document() -> bytes:
    return openapi.document((path, handler) for path, handler, _ in ROUTES)


def application(services: Services) -> PacedApplication:
    """The routes, with what their handlers work with as the third element."""
    given = {"services": services}
    return PacedApplication(
        services,
        [(path, handler, given | more) for path, handler, more in ROUTES],
        default_handler_class=Unknown,
        default_handler_args=given,
        log_function=log_request,
        template_path=str(pages.templates_dir()),
        websocket_ping_interval=None,  # Client asks by itself: Tornado's way is a task for each connection
        websocket_max_message_size=services.settings.limits.message_bytes,
    )
