"""AMIGA's numbers once more, slow and obvious: all rows, plain loops, no state. To compare the collector with.

Written from the description of AMIGA's files, not from the collector; it shares no code with it.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter, defaultdict
from pathlib import Path

import apsw

ENDED = ("completed", "failed", "stopped")


class Reference:
    """One installation as it stands at `now`, naive times meaning `zone`."""

    def __init__(self, root: Path, now: float, zone: dt.tzinfo) -> None:
        self.now = now
        self.zone = zone
        self.con = apsw.Connection(str(root / "data" / "agentlab.db"))
        self.links: dict[str, str] = {}  # session: task
        self.lines: dict[str, float] = {}  # session: time of its newest hook line
        self._read_hooks(root / "logs" / "sessions")
        self.status_rows = self._table("agent_status", "timestamp, task_id, status, message, metadata")
        self.tool_rows = self._table("tool_usage", "timestamp, task_id, tool_name, success")
        self.answers = self._answers()
        self.tasks = self._tasks()
        self.calls = self._calls()
        self.con.close()

    # -- reading ---------------------------------------------------------------------------------

    def epoch(self, text: str) -> float:
        moment = dt.datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=self.zone)
        return min(moment.timestamp(), self.now + 86400)  # no further ahead than a day

    def _table(self, name: str, columns: str) -> list[tuple]:
        rows = self.con.execute(f"SELECT {columns} FROM {name} ORDER BY id").fetchall()  # noqa: S608 - ours
        return [(self.epoch(row[0]), *row[1:]) for row in rows]

    def _read_hooks(self, folder: Path) -> None:
        for file in folder.glob("*/pre_tool_use.jsonl"):
            for line in file.read_text("utf-8").split("\n")[:-1]:
                try:
                    value = json.loads(line)
                except ValueError:
                    continue
                if isinstance(value, dict):
                    session, when = file.parent.name, self.epoch(value["timestamp"])
                    self.lines[session] = max(when, self.lines.get(session, when))
                    if value.get("task_id"):
                        self.links[session] = value["task_id"]

    def _tasks(self) -> dict[str, dict]:
        tasks = {}
        for task_id, status, created, updated, error in self.con.execute(
            "SELECT task_id, status, created_at, updated_at, error FROM tasks"
        ):
            marks = defaultdict(list)
            for when, owner, word, *_ in self.status_rows:
                if owner == task_id and word in ENDED:
                    marks[word].append(when)
            shown, ended = status, None
            if status in ENDED:
                ended = max(marks[status]) if marks[status] else self.epoch(updated)
            if status == "failed" and marks["stopped"]:
                stopped = max(marks["stopped"])
                if not marks["failed"] or 0 <= max(marks["failed"]) - stopped <= 60:
                    shown, ended = "stopped", stopped
            tasks[task_id] = {"status": shown, "ended": ended, "created": self.epoch(created), "error": error}
        return tasks

    def _answers(self) -> list[tuple[float, int, int]]:
        """(time, tokens in, tokens out) of everything a model was asked for, as far as the database tells."""
        answers = [
            (self.epoch(stamp), read, written)
            for stamp, read, written in self.con.execute(
                "SELECT timestamp, tokens_input, tokens_output FROM messages WHERE role = 'assistant'"
            )
            if read is not None
        ]
        columns = [row[1] for row in self.con.execute("PRAGMA table_info(tool_usage)")]
        if "input_tokens" in columns:  # the completed row and its report tell of the same answer
            seen = set()
            for stamp, *told in self.con.execute(
                "SELECT timestamp, input_tokens, output_tokens, task_id, parameters FROM tool_usage"
                " WHERE input_tokens IS NOT NULL ORDER BY id"
            ):
                if tuple(told) not in seen:
                    seen.add(tuple(told))
                    answers.append((self.epoch(stamp), told[0], told[1]))
        return answers

    # -- calls -----------------------------------------------------------------------------------

    def _calls(self) -> list[dict]:
        ends = defaultdict(list)
        for when, owner, word, message, metadata in self.status_rows:
            if word == "tool_call":
                tool = message.removesuffix(" completed")
                ends[owner, tool].append((when, bool(json.loads(metadata)["success"])))
        finished, open_rows = defaultdict(list), defaultdict(list)
        for when, owner, tool, success in self.tool_rows:
            if success is None:
                open_rows[owner, tool].append(when)
            else:
                finished[owner, tool].append((when, bool(success)))
        calls = []
        for key in {*ends, *finished, *open_rows}:
            clusters = self._clusters(open_rows[key])
            if ends[key] or not finished[key]:
                ended = ends[key]
                surplus = max(0, len(finished[key]) - len(ends[key]))
                count = max(0, len(clusters) - surplus)
                still = clusters[len(clusters) - count :]
            else:
                ended, still = self._paired(finished[key], clusters)
            calls += [{"key": key, "at": when, "ok": ok, "state": "ended"} for when, ok in ended]
            state = "orphaned" if self._is_over(key[0]) else "running"
            calls += [{"key": key, "at": when, "ok": None, "state": state} for when in still]
        return calls

    @staticmethod
    def _clusters(times: list[float]) -> list[float]:
        clusters = []
        for when in sorted(times):
            if not clusters or when - clusters[-1] > 0.5:
                clusters.append(when)
        return clusters

    @staticmethod
    def _paired(finished: list[tuple], clusters: list[float]) -> tuple[list[tuple], list[float]]:
        """Without status rows: a finished row beside an open one is a start whose end row comes later."""
        bunches: list[list[tuple]] = []
        for row in sorted(finished):
            if bunches and row[0] - bunches[-1][0][0] <= 0.5:
                bunches[-1].append(row)
            else:
                bunches.append([row])
        left, started, ended = list(clusters), [], []
        for bunch in bunches:
            first, result = bunch[0][0], bunch[-1][1]
            beside = [when for when in left if abs(when - first) <= 0.5]
            if beside:
                left.remove(beside[0])
                started.append((first, result))
                continue
            if started:
                started.pop(0)
            else:
                before = [when for when in left if when < first]
                if len(bunch) > 1 and before:
                    left.remove(before[-1])
            ended.append((first, result))
        return ended + started, left

    def _is_over(self, owner: str) -> bool:
        task = self.tasks.get(owner) or self.tasks.get(self.links.get(owner, ""))
        if task is not None and task["status"] in ENDED:
            return True
        if task is not None and task["status"] in ("running", "pending"):
            return False
        return self.now - self.last_sign(owner) > 1800

    def last_sign(self, owner: str) -> float:
        tools = [row[0] for row in self.tool_rows if row[1] == owner]
        ends = [row[0] for row in self.status_rows if row[1] == owner and row[2] == "tool_call"]
        return max(tools + ends)

    # -- numbers ---------------------------------------------------------------------------------

    def start(self, hours: int) -> float:
        return (self.now // 60 - hours * 60) * 60

    def totals(self) -> dict[str, int]:
        counts = Counter(task["status"] for task in self.tasks.values())
        known = {name: counts[name] for name in ("pending", "running", *ENDED)}
        return known | {"total": len(self.tasks), "other": len(self.tasks) - sum(known.values())}

    def task_window(self, hours: int) -> dict[str, int]:
        start = self.start(hours)
        ended = Counter(
            task["status"]
            for task in self.tasks.values()
            if task["ended"] is not None and task["ended"] >= start
        )
        created = sum(task["created"] >= start for task in self.tasks.values())
        return {name: ended[name] for name in ENDED} | {"created": created}

    def tool_window(self, hours: int) -> dict[str, object]:
        start = self.start(hours)
        inside = [call for call in self.calls if call["at"] >= start or call["state"] == "running"]
        owners = {row[1] for row in self.tool_rows} | {
            row[1] for row in self.status_rows if row[2] == "tool_call"
        }
        unrecorded = [last for one, last in self.lines.items() if not {one, self.links.get(one)} & owners]
        return {
            "total_calls": len(inside),
            "raw_rows": sum(row[0] >= start for row in self.tool_rows),
            "running": sum(call["state"] == "running" for call in inside),
            "orphaned": sum(call["state"] == "orphaned" for call in inside),
            "failed": sum(call["ok"] is False for call in inside),
            "by_type": dict(Counter(call["key"][1] for call in inside)),
            "errors": dict(Counter(call["key"][1] for call in inside if call["ok"] is False)),
            "sessions": sum(last >= start for last in [*map(self.last_sign, owners), *unrecorded]),
        }

    def api_window(self, hours: int) -> dict[str, int]:
        inside = [answer for answer in self.answers if answer[0] >= self.start(hours)]
        return {
            "total_requests": len(inside),
            "total_input_tokens": sum(answer[1] for answer in inside),
            "total_output_tokens": sum(answer[2] for answer in inside),
        }

    def of_task(self, task_id: str) -> tuple[int, int]:
        """(calls, errors) of a task and the sessions that worked on it."""
        keys = {task_id} | {session for session, task in self.links.items() if task == task_id}
        mine = [call for call in self.calls if call["key"][0] in keys]
        return len(mine), sum(call["ok"] is False for call in mine)
