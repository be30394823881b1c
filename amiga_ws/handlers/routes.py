"""Every route there is; each passes the guard (tests/test_guard.py walks this table)."""

from __future__ import annotations

from tornado.web import Application

from amiga_ws.handlers import admin, history, lists, pages, rest
from amiga_ws.handlers.guard import Services, Unknown, log_request
from amiga_ws.handlers.pacing import PacedApplication
from amiga_ws.handlers.sse import MetricsEvents
from amiga_ws.handlers.websocket import MetricsSocket


def application(services: Services) -> Application:
    """The routes, with what their handlers work with as the third element."""
    given = {"services": services}

    def page(name: str) -> dict[str, object]:
        return {"services": services, "template": name}

    return PacedApplication(
        [
            (r"/", pages.Page, page("dashboard.html")),
            (r"/login", pages.LoginPage, page("login.html")),
            (r"/websocket-test", pages.Page, page("websocket_dashboard.html")),
            (r"/admin", pages.AdminPage, page("admin.html")),
            (r"/static/(.*)", pages.Static, given),
            (r"/favicon\.ico", pages.Favicon, given),
            (r"/health", rest.Health, given),
            (r"/ready", rest.Ready, given),
            (r"/ws", MetricsSocket, given),
            (r"/api/stream/metrics", MetricsEvents, given),
            (r"/api/metrics/overview", rest.Overview, given),
            (r"/api/metrics/timeseries", history.Timeseries, given),
            (r"/api/metrics/tools", rest.ToolsOnce, given),
            (r"/api/metrics/tasks", rest.TasksOnce, given),
            (r"/api/metrics/system", rest.SystemOnce, given),
            (r"/api/tasks", lists.Tasks, given),
            (r"/api/tasks/([^/]+)", lists.OneTask, given),
            (r"/api/sessions", lists.Sessions, given),
            (r"/api/sessions/([^/]+)", lists.OneSession, given),
            (r"/api/export/tasks", lists.ExportTasks, given),
            (r"/api/session", rest.Session, given),
            (r"/api/session/renew", rest.SessionRenewal, given),
            (r"/api/admin/connections", admin.Connections, given),
            (r"/api/admin/connections/([0-9a-f]{16})", admin.OneConnection, given),
            (r"/api/admin/revocations", admin.Revocations, given),
            (r"/api/admin/refusals", admin.Refusals, given),
        ],
        default_handler_class=Unknown,
        default_handler_args=given,
        log_function=log_request,
        template_path=str(pages.templates_dir()),
        websocket_ping_interval=None,  # Client asks by itself: Tornado's way is a task for each connection
        websocket_max_message_size=services.settings.limits.message_bytes,
    )
