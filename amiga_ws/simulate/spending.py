"""Where spending can be read besides the database: Claude Code's transcripts, and the usage.json of old AMIGAs."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amiga_ws.simulate.installation import Installation, utc_stamp

MODELS = {"sonnet": "claude-sonnet-4-5", "opus": "claude-opus-4-5", "haiku": "claude-haiku-4-5"}
SYNTHETIC = "<synthetic>"  # lines Claude Code makes up itself; they cost nothing


@dataclass(frozen=True)
class Usage:
    """Tokens of one answer, the classes kept apart as they are priced apart."""

    input: int
    output: int
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    cache_read: int = 0


@dataclass(frozen=True)
class Answer:
    """One answer of the API, however many lines tell of it."""

    session: str
    message_id: str
    request_id: str
    model: str
    usage: Usage
    at: float  # epoch seconds
    subagent: str | None


class Transcripts:
    """Claude Code's `projects` directory: DIR/SESSION.jsonl, sub-agents in DIR/SESSION/subagents/.

    `answers` is the truth: each answer once.
    """

    def __init__(self, directory: Path, rng: random.Random, project: str = "-srv-code") -> None:
        self.directory = directory
        self._rng = rng
        self._project = project
        self.answers: list[Answer] = []

    def add(
        self,
        session: str,
        model: str,
        usage: Usage,
        *,
        at: float,
        lines: int = 1,
        subagent: str | None = None,
    ) -> Answer:
        """Write one answer on `lines` lines, each with the whole usage, as Claude Code does per content block."""
        answer = Answer(session, self._id("msg"), self._id("req"), model, usage, at, subagent)
        self.answers.append(answer)
        self.repeat(answer, lines)
        return answer

    def repeat(self, answer: Answer, lines: int = 1) -> None:
        """Tell of an answer again; a resumed session does so in another place of its file."""
        path = self.path(answer.session, answer.subagent)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(_line(answer)) + "\n" for _ in range(lines)))

    def invent(self, session: str, model: str, *, at: float, subagent: str | None = None) -> Answer:
        """A plausible answer: most of what it reads is cached."""
        rng = self._rng
        usage = Usage(
            input=rng.randint(3, 40),
            output=rng.randint(60, 1_500),
            cache_write_5m=rng.randint(200, 5_000),
            cache_read=rng.randint(12_000, 90_000),
        )
        return self.add(session, model, usage, at=at, lines=rng.randint(1, 3), subagent=subagent)

    def path(self, session: str, subagent: str | None = None) -> Path:
        """The file of a session or of one of its sub-agents."""
        folder = self.directory / self._project
        if subagent is None:
            return folder / f"{session}.jsonl"
        return folder / session / "subagents" / f"agent-{subagent}.jsonl"

    def _id(self, kind: str) -> str:
        return f"{kind}_{self._rng.getrandbits(96):024x}"


def _line(answer: Answer) -> dict[str, Any]:
    usage = answer.usage
    return {
        "type": "assistant",
        "sessionId": answer.session,
        "isSidechain": answer.subagent is not None,
        "requestId": answer.request_id,
        "timestamp": utc_stamp(answer.at),
        "message": {
            "id": answer.message_id,
            "role": "assistant",
            "model": answer.model,
            "content": [{"type": "text", "text": "…"}],
            "usage": {
                "input_tokens": usage.input,
                "output_tokens": usage.output,
                "cache_creation_input_tokens": usage.cache_write_5m + usage.cache_write_1h,
                "cache_read_input_tokens": usage.cache_read,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": usage.cache_write_5m,
                    "ephemeral_1h_input_tokens": usage.cache_write_1h,
                },
            },
        },
    }


def add_usage_record(
    files: Installation, user: int | str, model: str, tokens: tuple[int, int], cost: float, *, at: float
) -> None:
    """Add a request to data/usage.json, which old AMIGAs rewrite whole; times are the host's local ones."""
    path = files.root / "data" / "usage.json"
    users = json.loads(path.read_text("utf-8")) if path.exists() else {}
    now = files.stamp(at)
    fresh: dict[str, Any] = {
        "user_id": user,
        "total_requests": 0,
        **dict.fromkeys(("total_cost", "daily_cost", "weekly_cost", "monthly_cost", "session_cost"), 0.0),
        "records": [],
        "limits": {"daily": 100.0, "monthly": 1000.0},
        "last_reset": now,
        "session_start": now,
        "last_warning": None,
    }
    entry = users.setdefault(str(user), fresh)
    entry["total_requests"] += 1
    entry["total_cost"] += cost
    record = {"timestamp": now, "model": model, "input_tokens": tokens[0], "output_tokens": tokens[1]}
    entry["records"].append(record | {"cost": cost, "request_type": "chat"})
    path.write_text(json.dumps(users, indent=2), "utf-8")
