"""Secrets do not get past the redactor, and ordinary text does."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amiga_ws.collectors.amiga.redact import MASK, one_line, redact, redact_json, redact_value

SECRET = "hunter2hunter2XYZ"  # noqa: S105 - the bait


@pytest.mark.parametrize(
    "text",
    [
        f"export API_KEY={SECRET}",
        f"OPENAI_API_KEY = '{SECRET}'",
        f'DB_PASSWORD="{SECRET} with spaces"\nX=1',
        f'curl -H "Authorization: Bearer {SECRET}" https://x.example',
        f"Authorization: Basic {SECRET}==",
        f"git clone https://bob:{SECRET}@git.example/x.git",
        f"git clone https://{SECRET}@git.example/x.git",
        f"postgres://app:{SECRET}@db:5432/x",
        f"mysql --password {SECRET} -u root",
        f"tool --api-key={SECRET}",
        f'{{"client_secret": "{SECRET}", "n": 1}}',
        f"bearer {SECRET}",
        f"aws_secret_access_key={SECRET}",
        f"Cookie: session={SECRET}",
        f"-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}\n-----END OPENSSH PRIVATE KEY-----",
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET} and cut here",
        f"PASSWORD:{SECRET}",
        f"pass\u200bword={SECRET}",
        f"curl -u bob:{SECRET} https://x.example",
        f"curl --user bob:{SECRET} https://x.example",
        f"mysqldump --all -u root -p{SECRET} app",
        f"sshpass -p {SECRET} ssh x",
        f"Cookie: a=x; other={SECRET}",
        f'{{\\"password\\": \\"{SECRET}\\"}}',
        f"https://hooks.slack.com/services/T0/B0/{SECRET}",
        f"https://x.example/?password%3D{SECRET}",
    ],
)
def test_a_secret_in_a_known_place_is_masked(text):
    assert "hunter2" not in redact(text)
    assert "hunter2" not in one_line(text)
    assert MASK in redact(text)


@pytest.mark.parametrize(
    "token",
    [
        "sk-ant-api03-abcdefghijklmnopqrstuvwxyz",
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "github_pat_11ABCDEFG0abcdefghijkl_mnop",
        "glpat-abcdefghijklmnopqrst",
        "xoxb-123456789012-abcdefghijkl",
        "AKIAABCDEFGHIJKLMNOP",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJvd25lciJ9.c2lnbmF0dXJl",
        "npm_abcdefghijklmnopqrstuvwxyz0123456789",
        "123456789:AAabcdefghijklmnopqrstuvwxyz0123456",
    ],
)
def test_a_credential_known_by_its_form_is_masked_anywhere(token):
    assert redact(f"use {token} here") == f"use {MASK} here"


def test_a_telegram_token_is_masked_also_in_the_address_of_its_bot():
    address = "https://api.telegram.org/bot{}/setWebhook"
    shown = redact(address.format("123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"))
    assert shown == address.format(MASK)


@pytest.mark.parametrize(
    "text",
    [
        "Fix flaky login test in ledger-api",
        "Añadir traducción al español \u2013 menú",
        "max_tokens=4096, input_tokens: 12",
        "[dead_process] Process 10728 no longer running (dead/killed)",
        "author: bob, authors=3",
        "see https://docs.example.org/api?page=2",
        "<b>not our business</b>",
    ],
)
def test_ordinary_text_stays_as_it_is(text):
    assert one_line(text) == text


def test_a_line_is_one_line_without_control_characters_and_capped():
    assert one_line("a\r\n\tb\x1b[31m\u202ec\x00") == "a b[31mc"
    assert len(one_line("x" * 500, 200)) == 200
    assert one_line(None) == ""


def test_a_secret_at_the_cut_is_masked_before_the_cut():
    assert "hunter" not in one_line("x" * 190 + f" password={SECRET}", 205)


def test_keys_are_masked_at_any_depth_and_strings_are_looked_into():
    value = redact_value({"a": [{"Auth": SECRET, "cmd": f"API_KEY={SECRET} run"}], "tokens": 5})
    assert value == {"a": [{"Auth": MASK, "cmd": f"API_KEY={MASK} run"}], "tokens": 5}


def test_parameters_that_are_no_json_are_redacted_as_text_or_hidden_altogether():
    assert redact_json(f'{{"password": "{SECRET}') == f'{{"password": "{MASK}"'
    assert redact_json(json.dumps({"command": "ls"})) == {"command": "ls"}
    assert redact_json('{"command": "ls"}', hide=True) is None
    assert redact_json("[" * 5_000) == "[" * 5_000


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner)
       | st.dictionaries(st.text(), inner), max_leaves=20))  # fmt: skip
def test_any_json_value_passes(value):
    json.dumps(redact_value(value))


@given(st.text(alphabet=st.sampled_from("abp=:ast-_ \"'@/sword\n"), max_size=300))
def test_redacting_twice_changes_nothing_more(text):
    once = redact(text)
    assert redact(once) == once


@pytest.mark.parametrize(
    "unit", ["a-", "password=", "https://", "sk-", "'", "--auth", "--token-", "_token_a-", "eyJ-"]
)
@pytest.mark.parametrize("before", ["", "auth", "secret_", "key \\"])
def test_hostile_text_costs_little(before, unit):
    """A search is one piece: while it lasts no other thread runs, and so no viewer is served."""
    began = time.process_time()
    redact((before + unit * 20_000)[:20_000])
    assert time.process_time() - began < 0.5


def test_a_name_that_is_harmless_shelters_no_other_one_behind_it():
    assert redact(f"pass: auth={SECRET}") == f"pass: auth={MASK}"
    assert redact(f"the x-api-key token: {SECRET}") == f"the x-api-key {MASK} {MASK}"
    assert redact(f"{'x' * 100}_token={SECRET}") == f"{'x' * 100}_token={MASK}"


def test_what_is_no_text_is_left_out():
    value = redact_json('{"a\\udfff": ["b\\ud800c", 1]}')
    assert json.dumps(value, ensure_ascii=False).encode() == b'{"a": ["bc", 1]}'
    assert one_line("\ud800model") == "model"
