"""What a simulated AMIGA works on: descriptions, commands, answers and errors like the real ones."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PROJECTS = ("ledger-api", "docs-site", "storefront", "mobile-app", "billing-worker")
USERS = (123456789, 987654321, "7b0c5d0e-43a0-4b6f-9a57-1f0d2c9b7e11")  # a web user's id is a text
AGENTS = (
    "code_agent",
    "frontend_agent",
    "research_agent",
    "git-worktree",
    "task-completion-validator",
    "git-merge",
)

_JOBS = (
    "Fix the flaky login test in {p}",
    "Add CSV export to the reports page of {p}",
    "Refactor database session handling in {p}",
    "Bump dependencies of {p} and repair what breaks",
    "Investigate slow start of {p}",
    "Write API documentation for the invoices endpoint of {p}",
    "Research alternatives to the current cache in {p}",
    "Añadir traducción al español en {p}: menú y ajustes",
    "Dark mode for the settings screen of {p}",
    "Rate-limit the public search of {p}, with tests",
    "Migrate {p} from moment.js to date-fns",
    "Customers see wrong totals with 3+ discounts in {p}: find out why <urgent>",
    "Remove dead feature flags from {p}",
    "Make the nightly import of {p} resumable after a crash",
)
_FILES = (
    "app/main.py",
    "app/auth/session.py",
    "app/reports/export.py",
    "src/components/Settings.tsx",
    "src/pages/Checkout.tsx",
    "tests/test_login.py",
    "docs/api/invoices.md",
    "migrations/0042_discounts.sql",
)
_COMMANDS = (
    "pytest -q",
    "git status",
    "git diff --stat",
    "npm run build",
    "ls -la",
    "python manage.py migrate --check",
    "git commit -am 'Repair session expiry'",
    "npm test -- --watch=false",
)
_ERRORS: Mapping[str, tuple[str, ...]] = {
    "Bash": (
        "FAILED tests/test_login.py::test_expired - AssertionError: assert 302 == 401",
        "npm ERR! network request to registry failed, reason: connect ECONNREFUSED",
        "bash: rg: command not found",
        "Command timed out after 120s",
        "fatal: not a git repository (or any of the parent directories): .git",
    ),
    "Edit": ("Error: String not found", "Error: File has not been read yet"),
    "Read": ("Error: File does not exist.", "ERROR: retrying worker 3 (line of a log file that was read)"),
    "WebFetch": ("Error: Request failed with status code 404",),
}
_TOOLS = {
    "Bash": (30, 4.0),
    "Read": (26, 0.3),
    "Edit": (18, 0.5),
    "Grep": (12, 0.6),
    "Glob": (5, 0.3),
    "TodoWrite": (8, 0.2),
    "Write": (5, 0.4),
    "Task": (4, 9.0),
    "WebFetch": (2, 3.0),
    "mcp__playwright__browser_snapshot": (2, 1.5),
}  # weight, usual seconds
_REQUESTS = (
    "please {j}",
    "can you {j}?",
    "{j}",
    "next: {j}",
    "how far is the export?",
    "what is running now?",
)
_REPLIES = (
    "On it: I started a task for that.",
    "Done. All tests pass.",
    "Two tasks are running, one waits for a worker.",
    "I found the reason: the session cookie expires too early.",
)
_FAILURES = (
    "Claude produced no output. The task may have failed silently or timed out.",
    "Claude produced minimal output (12 chars): Not possible",
    "Task execution error: API Error: 529 overloaded",
    "[timeout] No updates for 30.4min (timeout: 30min)",
)


@dataclass(frozen=True)
class Use:
    """One tool call to come."""

    tool: str
    parameters: Mapping[str, Any]
    seconds: float
    error: str | None
    tokens: tuple[int, int] | None


class Story:
    """Invents the next thing that happens; depends on the given random numbers alone."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._tools = list(_TOOLS)
        self._weights = [weight for weight, _ in _TOOLS.values()]

    def job(self) -> dict[str, Any]:
        """The columns of a new task."""
        rng = self._rng
        project = rng.choice(PROJECTS)
        return {
            "description": rng.choice(_JOBS).format(p=project),
            "user_id": rng.choices(USERS, (6, 3, 1))[0],
            "model": rng.choices(("sonnet", "opus", "haiku"), (7, 2, 1))[0],
            "workspace": f"/srv/code/{project}",
            "agent_type": rng.choices(("orchestrator", "code_agent", "research_agent"), (6, 3, 1))[0],
            "context": rng.choice((None, f"User wants a change in {project}")),
        }

    def use(self, workspace: str) -> Use:
        """The next tool call in a workspace."""
        rng = self._rng
        tool = rng.choices(self._tools, self._weights)[0]
        seconds = min(90.0, _TOOLS[tool][1] * rng.lognormvariate(0, 0.8))
        errors = _ERRORS.get(tool, ())
        error = rng.choice(errors) if errors and rng.random() < 0.07 else None  # noqa: PLR2004 - 7 in 100 fail
        tokens = (rng.randint(800, 60_000), rng.randint(80, 4_000)) if tool == "Task" else None
        return Use(tool, self._parameters(tool, workspace), seconds, error, tokens)

    def failure(self) -> str:
        """Why a task failed."""
        return self._rng.choice(_FAILURES)

    def chat(self) -> tuple[str, str, tuple[int, int]]:
        """A request of a user, the answer, and its tokens (input, output)."""
        rng = self._rng
        job = rng.choice(_JOBS).format(p=rng.choice(PROJECTS))
        tokens = (rng.randint(1_500, 12_000), rng.randint(40, 700))
        return rng.choice(_REQUESTS).format(j=job), rng.choice(_REPLIES), tokens

    def _parameters(self, tool: str, workspace: str) -> dict[str, Any]:
        rng = self._rng
        path = f"{workspace}/{rng.choice(_FILES)}"
        workspace_search = {"pattern": rng.choice(("def login", "TODO", "session_")), "path": workspace}
        invented: dict[str, dict[str, Any]] = {
            "Bash": {"command": rng.choice(_COMMANDS), "description": "Run a command"},
            "Task": {"subagent_type": rng.choice(AGENTS), "description": "A part", "prompt": "Do your part."},
            "TodoWrite": {"todos": self._todos()},
            "Grep": workspace_search,
            "Glob": workspace_search | {"pattern": "**/*.tsx"},
            "Read": {"file_path": path},
            "Edit": {"file_path": path, "old_string": "timeout = 30", "new_string": "timeout = 300"},
            "Write": {"file_path": path, "content": "# made by the simulator\n" * 20},
            "WebFetch": {"url": "https://docs.example.org/api", "prompt": "How is paging done?"},
        }
        return invented.get(tool, {})

    def _todos(self) -> list[dict[str, str]]:
        done = self._rng.randint(0, 3)
        steps = ("Reproduce", "Change", "Test", "Merge")
        states = ["completed"] * done + ["in_progress"] + ["pending"] * (3 - done)
        pairs = zip(steps, states, strict=True)
        return [{"content": step, "status": state, "activeForm": f"{step}…"} for step, state in pairs]
