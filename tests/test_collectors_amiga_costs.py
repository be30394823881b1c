"""Tokens and money: every answer once, priced by the day and the model, unknown never free."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from installation import CLI_SESSION, Installation, local
from reading import DAY, NOW, Clock, collector_of, read

from amiga_ws.collectors.amiga import hooks, ledger, transcripts
from amiga_ws.collectors.amiga.prices import NANO, PriceTable, Tokens
from amiga_ws.config.prices import DEFAULT_PRICES, Price

MILLION = 1_000_000
TODAY = dt.date(2026, 11, 18)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def amiga(tmp_path):
    made = Installation(tmp_path / "amiga")
    made.task("aaaaaa", at=NOW - 600, model="opus")
    return made


@pytest.fixture
def collector(amiga, tmp_path, clock):
    return collector_of(amiga.root, tmp_path / "private", clock)


def task_row(amiga, owner, at, tokens, prompt="p"):
    row = amiga.tool(
        owner,
        "Task",
        at,
        1,
        input_tokens=tokens[0],
        output_tokens=tokens[1],
        parameters=json.dumps({"prompt": prompt}),
    )
    amiga.ended(owner, "Task", at + 30)
    return row


# -- prices ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "day", "dollars"),
    [
        ("haiku", TODAY, 1 + 5 + 1.25 + 0.10),
        ("haiku", dt.date(2025, 1, 1), 0.80 + 4 + 1 + 0.08),
        ("sonnet", TODAY, 3 + 15 + 3.75 + 0.30),
        ("opus", TODAY, 5 + 25 + 6.25 + 0.50),
        ("opus", dt.date(2025, 10, 30), 15 + 75 + 18.75 + 1.5),
        ("claude-opus-4-1-20250805", TODAY, 15 + 75 + 18.75 + 1.5),
        ("claude-opus-4-20250514", TODAY, 15 + 75 + 18.75 + 1.5),
        ("claude-sonnet-4.5", TODAY, 3 + 15 + 3.75 + 0.30),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", TODAY, 3 + 15 + 3.75 + 0.30),
        ("claude-haiku-4-5", TODAY, 1 + 5 + 1.25 + 0.10),
        ("claude-opus-4-0", TODAY, 15 + 75 + 18.75 + 1.5),
        ("claude-sonnet-4-0", TODAY, 3 + 15 + 3.75 + 0.30),
        ("claude-3-5-haiku-latest", TODAY, 0.80 + 4 + 1 + 0.08),
    ],
)
def test_a_model_is_priced_by_its_version_and_an_alias_by_the_day(model, day, dollars):
    tokens = Tokens(MILLION, MILLION, MILLION, MILLION)
    assert PriceTable().cost(model, day, tokens) == pytest.approx(dollars * NANO)


@pytest.mark.parametrize(
    "model",
    ["", "unknown", "gpt-4", "claude-opus-4-9", "claude-opus-4-05", "claude-opus-5", "sonnet-ish", "son"],
)
def test_a_model_without_a_price_has_no_cost(model):
    assert PriceTable().cost(model, TODAY, Tokens(1, 1)) is None


def test_cache_writes_for_an_hour_cost_more():
    table = PriceTable()
    five = table.cost("sonnet", TODAY, Tokens(0, 0, MILLION, 0))
    hour = table.cost("sonnet", TODAY, Tokens(0, 0, MILLION, 0, cache_write_1h=MILLION))
    assert (five, hour) == (3.75 * NANO, 6.0 * NANO)


def test_the_table_tells_its_newest_date():
    assert PriceTable().dated == max(price.since for price in DEFAULT_PRICES).isoformat()
    assert PriceTable(()).dated is None


# -- sources -----------------------------------------------------------------------------------------


def test_a_sub_agents_tokens_are_its_tasks_and_count_once(amiga, collector):
    task_row(amiga, "aaaaaa", NOW - 100, (MILLION, 0))
    task_row(amiga, "aaaaaa", NOW - 70, (MILLION, 0))  # the report's row of the same call
    task_row(amiga, "aaaaaa", NOW - 50, (0, MILLION), prompt="another")
    facts = read(collector)
    costs, api = facts.windows[24].costs, facts.windows[24].claude_api
    assert costs.total_cost == costs.opus_cost == facts.tasks[0].cost == 30.0
    assert (api.total_requests, api.total_input_tokens, api.total_output_tokens) == (2, MILLION, MILLION)
    assert api.cache_read_tokens is None
    assert facts.tasks[0].tokens == 2 * MILLION


def test_tokens_that_come_with_the_end_of_a_call_are_seen(amiga, collector):
    row = amiga.tool("aaaaaa", "Task", NOW - 100, parameters="{}")
    assert read(collector).windows[24].claude_api.total_requests == 0
    amiga.finish(row, 1)
    amiga.db.execute("UPDATE tool_usage SET input_tokens=5, output_tokens=7 WHERE id=?", (row,))
    amiga.ended("aaaaaa", "Task", NOW - 10)
    assert read(collector).windows[24].claude_api.total_input_tokens == 5


def test_chats_are_counted_and_usage_json_adds_only_what_they_lack(amiga, collector):
    amiga.message(NOW - 100, (MILLION, 0))
    records = [
        {"timestamp": local(NOW - 100), "model": "haiku", "input_tokens": MILLION, "output_tokens": 0},
        {"timestamp": local(NOW - 90), "model": "sonnet", "input_tokens": MILLION, "output_tokens": 0},
        {"timestamp": "nonsense", "model": "sonnet", "input_tokens": 1, "output_tokens": 0},
        "not a record",
    ]
    usage = amiga.root / "data" / "usage.json"
    usage.write_text(json.dumps({"123": {"records": records}, "456": None}), "utf-8")
    costs = read(collector).windows[24].costs
    assert (costs.haiku_cost, costs.sonnet_cost, costs.total_cost) == (1.0, 3.0, 4.0)
    usage.write_text('{"123": {"rec', "utf-8")  # being rewritten
    assert read(collector).windows[24].costs.total_cost == 4.0
    usage.write_text("{}", "utf-8")
    assert read(collector).windows[24].costs.total_cost == 1.0


def test_a_record_of_usage_json_counts_only_until_a_message_tells_of_the_same(amiga, collector):
    at = NOW - 100
    records = [
        {"timestamp": local(at - after), "model": "haiku", "input_tokens": MILLION, "output_tokens": 0}
        for after in (0, 300)
    ]
    (amiga.root / "data" / "usage.json").write_text(json.dumps({"123": {"records": records}}), "utf-8")
    amiga.message(NOW - 500, (MILLION, 0))
    assert read(collector).windows[24].costs.haiku_cost == 3.0
    amiga.message(at, (MILLION, 0))
    assert read(collector).windows[24].costs.haiku_cost == 3.0
    amiga.message(NOW - 50, (MILLION, 0))
    assert read(collector).windows[24].costs.haiku_cost == 4.0


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_message_amid_a_flood_of_rows_is_told_within_four_readings(amiga, collector, goes_on):
    read(collector)
    amiga.message(NOW - 1, (MILLION, 0))
    for reading in range(4):
        for row in range(200 if goes_on or not reading else 0):
            amiga.tool("aaaaaa", "Bash", NOW + reading + row / 1000, 1)
        found = collector.collect(DAY)
    assert found.windows[24].claude_api.total_requests == 1
    amiga.message(NOW + 9, (MILLION, 0))  # and at once where little comes in
    assert collector.collect(DAY).windows[24].claude_api.total_requests == 2


@pytest.mark.parametrize("at", [0.499, 0.999])
@pytest.mark.parametrize("later", [-0.4, -0.002, 0.002, 0.4])
def test_a_record_of_usage_json_is_its_message_wherever_a_second_begins(amiga, collector, at, later):
    amiga.message(NOW - 100 + at, (MILLION, 0))
    record = {"timestamp": local(NOW - 100 + at + later), "input_tokens": MILLION, "output_tokens": 0}
    (amiga.root / "data" / "usage.json").write_text(json.dumps({"123": {"records": [record]}}), "utf-8")
    assert read(collector).windows[24].claude_api.total_requests == 1


def test_an_unpriced_model_is_counted_and_never_free(amiga, collector):
    amiga.message(NOW - 100, (10, 10), model="mystery-9")
    costs = read(collector).windows[24].costs
    assert (costs.total_cost, costs.unpriced_calls) == (None, 1)
    assert costs.by_model["mystery-9"].cost is None
    amiga.message(NOW - 90, (MILLION, 0))
    costs = read(collector).windows[24].costs
    assert (costs.total_cost, costs.unpriced_calls, costs.today) == (1.0, 1, 1.0)


def test_a_models_family_is_known_in_capitals_too(amiga, collector):
    amiga.message(NOW - 100, (MILLION, 0), model="Claude-Sonnet-4-5")
    costs = read(collector).windows[24].costs
    assert (costs.sonnet_cost, costs.total_cost) == (3.0, 3.0)
    assert collector.minutes(int((NOW - 100) // 60), int(NOW // 60))["tokens.sonnet"]


def test_of_more_models_than_are_told_apart_the_rest_is_other(amiga, collector, monkeypatch):
    monkeypatch.setattr(ledger, "MAX_MODELS", 2)
    for model in ("haiku", "mystery", "sonnet", "opus", "mystery", "haiku"):
        amiga.message(NOW - 100, (MILLION, 0), model=model)
    costs = read(collector).windows[24].costs
    assert {name: (one.calls, one.cost) for name, one in costs.by_model.items()} == {
        "haiku": (2, 2.0),
        "mystery": (2, None),
        "other": (2, 8.0),
    }


def test_no_calls_cost_nothing_and_no_database_costs_unknown(amiga, collector, tmp_path):
    assert read(collector).windows[24].costs.total_cost == 0.0
    missing = read(collector_of(tmp_path / "none", tmp_path / "private"))
    assert missing.windows.get(24) is None


def test_days_begin_at_midnight_of_amigas_zone(amiga, tmp_path):
    # 12:06 in Madrid; 13 h earlier is yesterday there.
    collector = collector_of(amiga.root, tmp_path / "private", timezone="Europe/Madrid")
    zone_off = 3600  # the rows are written as naive times of Madrid
    amiga.message(NOW + zone_off - 13 * 3600, (MILLION, 0))
    amiga.message(NOW + zone_off - 11 * 3600, (2 * MILLION, 0))
    amiga.message(NOW + zone_off - 6 * 86400, (4 * MILLION, 0))
    amiga.message(NOW + zone_off - 7 * 86400, (8 * MILLION, 0))
    amiga.message(NOW + zone_off - 29 * 86400, (16 * MILLION, 0))
    amiga.message(NOW + zone_off - 30 * 86400, (32 * MILLION, 0))
    costs = read(collector).windows[24].costs
    assert (costs.today, costs.d7, costs.d30) == (2.0, 7.0, 31.0)
    assert costs.utc_offset_s == zone_off


@pytest.mark.parametrize(
    ("limit", "share", "day"), [(30.0, 1.2, 16), (50.0, 0.72, 26), (59.9, 0.601, 30), (60.0, 0.6, None)]
)
def test_a_budget_tells_its_share_and_the_day_of_this_month_on_which_it_is_used_up(
    amiga, tmp_path, limit, share, day
):
    collector = collector_of(amiga.root, tmp_path / "private", budget=limit)
    amiga.message(NOW - 5 * 86400, (36 * MILLION, 0))  # on the 13th of the month; NOW is the 18th: 2 a day
    amiga.message(NOW - 40 * 86400, (500 * MILLION, 0))  # last month
    budget = read(collector).windows[24].costs.budget
    assert (budget.limit, budget.share) == (limit, share)
    expected = None if day is None else dt.datetime(2026, 11, day, tzinfo=dt.UTC).timestamp()
    assert budget.projected_day == expected


def test_own_prices_replace_the_table(amiga, tmp_path):
    mine = Price(
        model="claude-haiku-4-5", since=dt.date(2026, 1, 1), input=7, output=0, cache_write=0, cache_read=0
    )
    collector = collector_of(amiga.root, tmp_path / "private", prices=(mine,), currency="EUR")
    amiga.message(NOW - 100, (MILLION, 0))
    costs = read(collector).windows[24].costs
    assert (costs.total_cost, costs.currency, costs.prices_dated) == (7.0, "EUR", "2026-01-01")


def test_task_rows_older_than_the_windows_still_count_in_the_month(amiga, tmp_path):
    task_row(amiga, "aaaaaa", NOW - 20 * 86400, (MILLION, 0))
    for place in range(3):
        amiga.tool("aaaaaa", "Bash", NOW - 100 + place * 2, 1)
    costs = read(collector_of(amiga.root, tmp_path / "private")).windows[24].costs
    assert (costs.total_cost, costs.d30) == (0.0, 5.0)


def test_a_hostile_token_count_is_no_count(amiga, collector):
    amiga.db.execute(
        "INSERT INTO messages (user_id, timestamp, role, content, tokens_input, tokens_output, model)"
        " VALUES (1, ?, 'assistant', '', 'many', -5, x'00')",
        (local(NOW),),
    )
    amiga.message(NOW - 10, (1 << 62, 3))
    api = read(collector).windows[24].claude_api
    assert api.total_requests == 1
    assert (api.total_input_tokens, api.total_output_tokens) == (0, 3)


# -- transcripts -------------------------------------------------------------------------------------


def line(at, ids=("m1", "r1"), model="claude-sonnet-4-5-20250929", usage=(MILLION, 0, 0, 0), **extra):
    names = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    message = {"id": ids[0], "model": model, "usage": dict(zip(names, usage, strict=True)) | extra}
    return (
        json.dumps(
            {"type": "assistant", "timestamp": local(at) + "Z", "requestId": ids[1], "message": message}
        )
        + "\n"
    )


@pytest.fixture
def projects(tmp_path):
    folder = tmp_path / "projects" / "-srv-code-app"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def with_transcripts(amiga, tmp_path, clock, projects):
    return collector_of(amiga.root, tmp_path / "private", clock, transcripts=projects.parent)


def test_an_answer_on_many_lines_and_in_a_resumed_session_counts_once(with_transcripts, projects):
    once = line(NOW - 50, usage=(100, 20, 30, 40))
    (projects / "one.jsonl").write_text(once * 3 + line(NOW - 40, ids=("m2", "r2")), "utf-8")
    (projects / "two.jsonl").write_text(once, "utf-8")
    facts = read(with_transcripts)
    api = facts.windows[24].claude_api
    assert facts.sources["transcripts"].state == "ok"
    assert (api.total_requests, api.total_input_tokens, api.total_output_tokens) == (2, MILLION + 100, 20)
    assert (api.cache_creation_tokens, api.cache_read_tokens) == (30, 40)


def test_of_an_answers_lines_the_most_counts_also_when_it_comes_later_or_in_another_file(
    with_transcripts, projects, clock
):
    path = projects / "one.jsonl"
    path.write_text(
        line(NOW - 50, usage=(100, 9, 30, 0)) * 2 + line(NOW - 49, usage=(100, 1590, 20, 5)), "utf-8"
    )
    api = read(with_transcripts).windows[24].claude_api
    assert (api.total_requests, api.total_input_tokens, api.total_output_tokens) == (1, 100, 1590)
    assert (api.cache_creation_tokens, api.cache_read_tokens) == (30, 5)
    with path.open("a") as file:
        file.write(line(NOW - 48, usage=(100, MILLION, 0, 0)))
    (projects / "two.jsonl").write_text(line(NOW - 50, usage=(100, 9, 30, 0)), "utf-8")
    clock.now += 30
    facts = read(with_transcripts)
    assert facts.windows[24].claude_api.total_requests == 1
    assert facts.windows[24].claude_api.total_output_tokens == MILLION
    assert facts.windows[24].costs.total_cost == facts.windows[24].costs.today == 15.000414


def test_of_more_answers_than_may_grow_the_old_ones_stay_as_they_are(with_transcripts, projects, monkeypatch):
    monkeypatch.setattr(transcripts, "MAX_BOOKED", 2)
    answers = [line(NOW, ids=(f"m{place}", "r"), usage=(1, 0, 0, 0)) for place in range(3)]
    more = [line(NOW, ids=(f"m{place}", "r"), usage=(10, 0, 0, 0)) for place in range(3)]
    (projects / "one.jsonl").write_text("".join(answers + more), "utf-8")
    api = read(with_transcripts).windows[24].claude_api
    assert (api.total_requests, api.total_input_tokens) == (3, 21)


@pytest.mark.parametrize("requests", [("r", None, "r"), (None, "r", None)])
def test_a_line_without_a_request_id_is_of_the_answer_with_its_message_id(
    with_transcripts, projects, requests
):
    lines = [line(NOW, ids=("m", request)) for request in requests]
    (projects / "one.jsonl").write_text("".join([*lines, line(NOW, ids=("m", "other"))]), "utf-8")
    assert read(with_transcripts).windows[24].claude_api.total_requests == 2


def test_ids_that_are_no_text_are_none(with_transcripts, projects):
    (projects / "one.jsonl").write_text(line(NOW, ids=(["m"], {})) + line(NOW), "utf-8")
    assert read(with_transcripts).windows[24].claude_api.total_requests == 2


def test_synthetic_lines_and_bad_ones_cost_nothing_and_lose_nothing(with_transcripts, projects):
    text = line(NOW, ids=("s", "s"), model="<synthetic>") + "{half\n" + '{"type": "user"}\n' + line(NOW)
    (projects / "one.jsonl").write_text(text + line(NOW, ids=("m9", "r9"))[:40], "utf-8")
    assert read(with_transcripts).windows[24].claude_api.total_requests == 1


@pytest.mark.parametrize("content", [None, b"no database at all" * 100], ids=["missing", "broken"])
def test_without_a_database_transcripts_are_not_loading_for_ever(tmp_path, clock, projects, content):
    """What is loading is read each second."""
    if content is not None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "agentlab.db").write_bytes(content)
    collector = collector_of(tmp_path, tmp_path / "private", clock, transcripts=projects.parent)
    for _ in range(3):
        source = collector.collect(DAY).sources["transcripts"]
    assert (source.state, "AMIGA's database" in source.hint) == ("missing", True)


def test_a_transcript_is_followed_as_it_grows(with_transcripts, projects, clock):
    path = projects / "one.jsonl"
    whole = line(NOW)
    path.write_text(whole[:50], "utf-8")
    assert read(with_transcripts).windows[24].claude_api.total_requests == 0
    path.write_text(whole, "utf-8")
    clock.now += 30
    assert read(with_transcripts).windows[24].claude_api.total_requests == 1


def test_many_transcripts_are_looked_through_a_part_at_a_time_and_forgotten_when_gone(
    with_transcripts, projects, clock, monkeypatch
):
    monkeypatch.setattr(transcripts, "FILES_PER_READING", 4)
    for place in range(10):
        (projects / f"s{place}.jsonl").write_text(line(NOW, ids=(f"m{place}", "r")), "utf-8")
    assert with_transcripts.collect(DAY).sources["transcripts"].state == "loading"
    assert read(with_transcripts).windows[24].claude_api.total_requests == 10
    for place in range(5):
        (projects / f"s{place}.jsonl").unlink()
    (projects / "new.jsonl").write_text(line(NOW, ids=("new", "r")), "utf-8")
    for _ in range(4):
        clock.now += 21
        facts = read(with_transcripts)
    assert facts.windows[24].claude_api.total_requests == 11  # what is counted stays
    assert len(with_transcripts._model.transcripts._files) == 6


def test_sub_agents_belong_to_the_session_and_its_task_and_task_rows_are_not_counted_again(
    amiga, with_transcripts, projects
):
    amiga.hook(CLI_SESSION, "Task", NOW - 60, task_id="aaaaaa")
    (projects / CLI_SESSION / "subagents").mkdir(parents=True)
    (projects / CLI_SESSION / "subagents" / "a1.jsonl").write_text(line(NOW - 50), "utf-8")
    task_row(amiga, "aaaaaa", NOW - 60, (MILLION, 0))
    facts = read(with_transcripts)
    assert facts.windows[24].claude_api.total_requests == 1
    assert facts.tasks[0].cost == 3.0


def test_a_transcript_or_a_link_that_is_found_later_than_the_row_changes_what_was_booked(
    amiga, with_transcripts, projects, clock
):
    for owner in ("aaaaaa", CLI_SESSION):
        task_row(amiga, owner, NOW - 60, (MILLION, 0))
    facts = read(with_transcripts)
    assert (facts.windows[24].claude_api.total_requests, facts.tasks[0].cost) == (2, 5.0)
    assert facts.windows[24].costs.unpriced_calls == 1  # nobody knows whose session that is
    amiga.hook(CLI_SESSION, "Task", NOW - 70, task_id="aaaaaa")
    clock.now += 30
    facts = read(with_transcripts)
    assert (facts.windows[24].costs.unpriced_calls, facts.tasks[0].cost) == (0, 10.0)
    (projects / f"{CLI_SESSION}.jsonl").write_text(line(NOW - 50), "utf-8")
    clock.now += 30
    facts = read(with_transcripts)
    assert (facts.windows[24].claude_api.total_requests, facts.tasks[0].cost) == (1, 3.0)


def test_a_task_or_its_model_that_is_written_later_than_the_row_changes_what_was_booked(
    amiga, collector, clock
):
    amiga.task("bbbbbb", at=NOW - 90, model="")
    for owner in ("bbbbbb", "cccccc"):
        task_row(amiga, owner, NOW - 60, (MILLION, 0))
    assert read(collector).windows[24].costs.unpriced_calls == 2
    amiga.update("bbbbbb", model="opus")
    clock.now += 30
    costs = read(collector).windows[24].costs
    assert (costs.unpriced_calls, costs.total_cost) == (1, 5.0)
    amiga.task("cccccc", at=NOW - 90, model="opus")
    clock.now += 30
    costs = read(collector).windows[24].costs
    assert (costs.unpriced_calls, costs.total_cost) == (0, 10.0)


def test_of_more_tasks_than_are_remembered_those_booked_last_have_their_tokens(
    amiga, collector, clock, monkeypatch
):
    monkeypatch.setattr(ledger, "MAX_OWNERS", 2)
    for owner in ("bbbbbb", "cccccc"):
        amiga.task(owner, at=NOW - 500, model="")
    for place, owner in enumerate(("bbbbbb", "aaaaaa", "cccccc")):
        task_row(amiga, owner, NOW - 300 + 100 * place, (MILLION, 0))
        clock.now += 30
        facts = read(collector)
    known = {task.task_id: task.tokens for task in facts.tasks}
    assert known == {"bbbbbb": None, "aaaaaa": MILLION, "cccccc": MILLION}
    for owner in ("bbbbbb", "cccccc"):
        amiga.update(owner, model="opus")  # taken back, though one was forgotten, and booked again
    clock.now += 30
    facts = read(collector)
    known = {task.task_id: task.tokens for task in facts.tasks}
    assert known == {"aaaaaa": None, "bbbbbb": MILLION, "cccccc": MILLION}
    assert facts.windows[24].costs.total_cost == 15.0


def test_rows_wait_until_the_hook_logs_have_told_whose_they_are(
    amiga, with_transcripts, projects, monkeypatch
):
    monkeypatch.setattr(hooks, "NEW_PER_READING", 1)
    for place in range(5):
        amiga.hook(f"{place}{CLI_SESSION[1:]}", "Task", NOW - 60, task_id="aaaaaa")
        (projects / f"{place}{CLI_SESSION[1:]}.jsonl").write_text(line(NOW - 50), "utf-8")
    task_row(amiga, "aaaaaa", NOW - 60, (MILLION, 0))
    while (facts := with_transcripts.collect(DAY)).sources["hooks"].state == "loading":
        assert (facts.tasks[0].cost if facts.tasks else None) in {None, 3.0}
    assert facts.tasks[0].cost == 3.0


def test_a_transcript_directory_that_is_not_there_is_told(amiga, tmp_path):
    collector = collector_of(amiga.root, tmp_path / "private", transcripts=tmp_path / "no")
    facts = read(collector)
    assert facts.sources["transcripts"].state == "missing"
    assert "amiga.transcripts" in facts.sources["transcripts"].hint
    assert facts.windows[24].claude_api.total_requests == 0


def test_prices_for_an_hours_cache_come_from_the_transcript(with_transcripts, projects):
    text = line(NOW, usage=(0, 0, MILLION, 0), cache_creation={"ephemeral_1h_input_tokens": MILLION})
    (projects / "one.jsonl").write_text(text, "utf-8")
    assert read(with_transcripts, DAY).windows[24].costs.sonnet_cost == 6.0


def test_chats_of_a_database_that_was_replaced_by_its_like_are_not_counted_on(amiga, collector, tmp_path):
    """The same inode, the same moment of its making, no tool row in either: only the chats tell."""
    amiga.close()
    empty = amiga.database.read_bytes()
    amiga.reopen()
    amiga.message(NOW - 10, (100, 3))
    amiga.close()
    assert read(collector).windows[24].claude_api.total_requests == 1
    with amiga.database.open("r+b") as file:
        file.write(empty)
        file.truncate()
    assert read(collector).windows[24].claude_api.total_requests == 0
