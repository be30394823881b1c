"""Settings: where they come from, who wins, and what is said about a wrong one."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amiga_ws.app import RELOADED
from amiga_ws.config import ROWS, ConfigError, load
from amiga_ws.config.kinds import seconds, spoken
from amiga_ws.config.render import LONG, config_yaml, configuration_markdown, yaml_value

CHECKOUT = Path(__file__).parent.parent


@pytest.fixture
def loaded(tmp_path):
    """load() with a file's text, overrides and environment; the file is tmp_path/config.yaml."""

    def load_with(text=None, *overrides, **environ):
        if text is not None:
            (tmp_path / "config.yaml").write_text(text, "utf-8")
        return load(None, overrides, environ, tmp_path)

    return load_with


@pytest.fixture
def refused(loaded):
    """The one line that load() fails with."""

    def message(*args, **environ):
        with pytest.raises(ConfigError) as caught:
            loaded(*args, **environ)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return message


# -- the table -----------------------------------------------------------------------------------


def test_shipped_files_are_what_the_table_renders():
    """To make them again: `python -m amiga_ws config --yaml > config.yaml`, and with `--markdown`."""
    assert (CHECKOUT / "config.yaml").read_text("utf-8") == config_yaml()
    assert (CHECKOUT / "docs/configuration.md").read_text("utf-8") == configuration_markdown(RELOADED)


def test_shipped_file_sets_nothing(loaded):
    assert loaded(config_yaml()).given == {}


def test_every_key_of_the_shipped_file_uncommented_is_its_default(loaded):
    defaults = loaded()
    text = re.sub(r"(?m)^( *)#([a-z_]+:|  - )", r"\1\2", config_yaml())
    uncommented = loaded(text)
    assert set(uncommented.given) == set(ROWS)
    for key in ROWS:
        assert uncommented.get(key) == defaults.get(key), key


def test_documentation_lists_every_key_with_its_default():
    for key, row in ROWS.items():
        default = yaml_value(row.default)
        shown = f"`{default}`" if len(default) < LONG else "see config.yaml"
        assert f"| `{key}` | {shown} |" in configuration_markdown(RELOADED)


@pytest.mark.parametrize(
    "line", ["", "model=x", "model=x since=soon input=1 output=1 cache_write=1 cache_read=1"]
)
def test_price_that_is_no_price_is_told_with_its_place(refused, line):
    text = refused(f"costs:\n  prices:\n    - '{line}'\n")
    assert "costs.prices" in text
    assert "model=NAME" in text


def test_every_key_has_its_own_environment_name():
    assert len({row.variable for row in ROWS.values()}) == len(ROWS)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("server.host", "127.0.0.1"),
        ("server.port", 3000),
        ("server.public_url", None),
        ("limits.connections", 2000),
        ("limits.connections_per_subject", 10),
        ("limits.connections_per_address", 20),
        ("limits.new_connections_per_second", 10),
        ("limits.messages_per_second", 20),
        ("limits.messages_burst", 40),
        ("limits.refreshes_per_second", 1),
        ("limits.refreshes_burst", 3),
        ("limits.message_bytes", 16384),
        ("metrics.update_interval", 2),
        ("auth.ttl", 8 * 3600),
        ("auth.max_ttl", 30 * 86400),
        ("auth.login_ttl", 120),
        ("origins.allow_null", False),
    ],
)
def test_defaults_that_others_rely_on(loaded, key, value):
    assert loaded().get(key) == value
    assert not loaded().is_set(key)


def test_settings_cannot_be_changed(loaded):
    settings = loaded()
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.server.port = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.server = None


# -- precedence ----------------------------------------------------------------------------------


def test_override_beats_environment_beats_file_beats_default(loaded):
    text = "server: {port: 1001}\n"
    assert loaded().server.port == 3000
    assert loaded(text).server.port == 1001
    assert loaded(text, AMIGA_WS_SERVER_PORT="1002").server.port == 1002
    assert loaded(text, "server.port=1003", AMIGA_WS_SERVER_PORT="1002").server.port == 1003
    assert loaded(text, "server.port=1003", "server.port=1004").server.port == 1004


def test_a_key_given_at_its_default_counts_as_given(loaded):
    settings = loaded("server: {port: 3000}")
    assert settings.is_set("server.port")
    assert not settings.is_set("server.host")
    assert settings.given == {"server.port": "config.yaml:1"}
    with pytest.raises(KeyError):
        settings.is_set("server.prot")


def test_works_without_a_file_and_without_an_environment(tmp_path):
    settings = load(None, [], {}, tmp_path)
    assert settings.config_file is None
    assert settings.state_dir == tmp_path / "var"


def test_named_file_is_used_instead_of_the_one_in_the_working_directory(tmp_path):
    (tmp_path / "config.yaml").write_text("server: {port: 1}")
    (tmp_path / "other.yaml").write_text("server: {port: 2}")
    assert load(Path("other.yaml"), [], {}, tmp_path).server.port == 2
    assert load(tmp_path / "other.yaml", [], {}, Path("/")).server.port == 2


def test_process_environment_and_directory_are_the_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AMIGA_WS_SERVER_PORT", "77")
    assert load().server.port == 77
    assert load().state_dir == tmp_path / "var"


def test_token_in_the_environment_is_no_setting(loaded):
    assert loaded(**{"AMIGA_WS_TOKEN": "eyJ"}).given == {}


# -- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 90), ("90s", 90), ("15m", 900), ("8h", 28800), ("2d", 172800), ("1.5h", 5400)],
)
def test_durations_in_file_environment_and_override(loaded, text, expected):
    assert loaded(f"auth: {{ttl: {text}}}").auth.ttl == expected
    assert loaded("", f"auth.ttl={text}").auth.ttl == expected
    assert loaded("", AMIGA_WS_AUTH_TTL=text).auth.ttl == expected


@given(st.integers(0, 10**7) | st.sampled_from([0.5, 1.5, 90.25]))
def test_a_spoken_duration_reads_back_as_itself(value):
    assert seconds(spoken(value)) == value


def test_lists_are_comma_separated_outside_the_file(loaded):
    wanted = ("https://a.example", "http://b.example:8080")
    text = "origins:\n  allowed:\n  - https://a.example\n  - http://b.example:8080\n"
    assert loaded(text).origins.allowed == wanted
    assert loaded("", "origins.allowed=https://a.example, http://b.example:8080").origins.allowed == wanted
    assert loaded("", AMIGA_WS_ORIGINS_ALLOWED=",".join(wanted)).origins.allowed == wanted
    assert loaded(text, "origins.allowed=").origins.allowed == ()


@pytest.mark.parametrize("word", ["", "null"])
def test_nothing_and_null_mean_none_where_none_is_possible(loaded, word):
    text = "server: {public_url: https://a.example}"
    assert loaded(text, f"server.public_url={word}").server.public_url is None


def test_origins_are_stored_as_browsers_send_them(loaded):
    assert (
        loaded("", "server.public_url=https://Monitor.Example:443/").server.public_url
        == "https://monitor.example"
    )
    assert loaded("", "origins.allowed=http://[::1]:80").origins.allowed == ("http://[::1]",)


def test_numbers_are_read_as_people_write_them(loaded):
    """YAML 1.1 would read an octal number and base 60 here."""
    assert loaded("server: {port: 0300}").server.port == 300
    with pytest.raises(ConfigError):
        loaded("server: {port: 1:30}")


@pytest.mark.parametrize("host", ["192.0.2.1", "::", "[::1]", "localhost", "monitor.example"])
def test_hosts_to_listen_on(loaded, host):
    assert loaded("", f"server.host={host}").server.host == host.strip("[]")


# -- paths ---------------------------------------------------------------------------------------


def test_relative_paths_start_at_the_configuration_files_folder(tmp_path):
    file = tmp_path / "etc" / "monitor.yaml"
    file.parent.mkdir()
    file.write_text("state_dir: state\namiga: {root: ../amiga}\n")
    settings = load(file, ["amiga.sessions=hooks"], {}, tmp_path / "elsewhere")
    assert settings.state_dir == file.parent / "state"
    assert settings.amiga.root.resolve() == tmp_path / "amiga"
    assert settings.amiga.sessions == file.parent / "hooks"
    file.write_text("")
    assert load(file, [], {}, tmp_path / "elsewhere").state_dir == file.parent / "var"


def test_relative_paths_start_at_the_working_directory_without_a_file(tmp_path):
    settings = load(None, ["state_dir=state"], {"AMIGA_WS_AMIGA_ROOT": "amiga"}, tmp_path)
    assert settings.state_dir == tmp_path / "state"
    assert settings.amiga.database == tmp_path / "amiga/data/agentlab.db"


def test_home_folder_is_expanded(loaded, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert loaded("amiga: {root: ~/amiga}").amiga.root == Path("/home/someone/amiga")


def test_amiga_is_found_where_it_is_usually_installed(loaded):
    amiga = loaded().amiga
    assert amiga.root == Path("/opt/amiga")
    assert amiga.database == Path("/opt/amiga/data/agentlab.db")
    assert amiga.sessions == Path("/opt/amiga/logs/sessions")
    assert amiga.name


def test_amigas_own_environment_is_followed(loaded):
    amiga = loaded(AGENTLAB_DATA_DIR="/srv/a/data").amiga
    assert (amiga.root, amiga.database) == (Path("/srv/a"), Path("/srv/a/data/agentlab.db"))
    assert amiga.sessions == Path("/srv/a/logs/sessions")
    amiga = loaded(AGENTLAB_DATA_DIR="/srv/a/data", AGENTLAB_DB_PATH="/mnt/x.db").amiga
    assert (amiga.root, amiga.database) == (Path("/srv/a"), Path("/mnt/x.db"))
    assert loaded(AGENTLAB_DB_PATH="/mnt/x.db").amiga.database == Path("/mnt/x.db")
    assert loaded(AGENTLAB_DATA_DIR="").amiga.root == Path("/opt/amiga")


def test_an_explicit_root_beats_amigas_environment(loaded):
    environ = {"AGENTLAB_DATA_DIR": "/srv/a/data", "AGENTLAB_DB_PATH": "/mnt/x.db"}
    amiga = loaded("", "amiga.root=/srv/b", **environ).amiga
    assert (amiga.root, amiga.database) == (Path("/srv/b"), Path("/srv/b/data/agentlab.db"))
    amiga = loaded("", "amiga.database=/srv/c.db", **environ).amiga
    assert (amiga.root, amiga.database) == (Path("/srv/a"), Path("/srv/c.db"))


# -- faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "key", "expected"),
    [
        ("server:\n  prot: 1\n", 2, "server.prot", "did you mean server.port?"),
        ("servre:\n  port: 1\n", 1, "servre", "expected the key of a setting"),
        ("port: 1\n", 1, "port", "expected the key of a setting"),
        ("server:\n  port: abc\n", 2, "server.port", "a whole number from 0 to 65535, got text 'abc'"),
        ("server:\n  port: '3000'\n", 2, "server.port", "got text '3000'"),
        ("server:\n  port: 65536\n", 2, "server.port", "from 0 to 65535, got 65536"),
        ("server:\n  port: 3000.5\n", 2, "server.port", "a whole number"),
        ("server:\n  port: true\n", 2, "server.port", "got true"),
        ("server:\n  port: [1]\n", 2, "server.port", "got [1]"),
        ("server:\n  port: {a: 1}\n", 2, "server.port", "got a mapping"),
        ("server:\n  port:\n", 2, "server.port", "got null"),
        ("server:\n  host: 5\n", 2, "server.host", "an IP address or a host name"),
        ("server:\n  host: http://a\n", 2, "server.host", "without scheme"),
        ("server:\n  allowed_hosts: monitor\n", 2, "server.allowed_hosts", "a list"),
        ("server:\n  allowed_hosts: [[a]]\n", 2, "server.allowed_hosts", "a list of lists"),
        ("server:\n  allowed_hosts: [a/b]\n", 2, "server.allowed_hosts", "a host name or address"),
        ("server:\n  public_url: monitor.example\n", 2, "server.public_url", "exact origin such as https://"),
        ("server:\n  public_url: https://a/b\n", 2, "server.public_url", "no path"),
        ("origins:\n  allowed: ['*']\n", 2, "origins.allowed", "no wildcard"),
        ("origins:\n  allowed: ['https://*.example']\n", 2, "origins.allowed", "no wildcard"),
        ("origins:\n  allowed: ['null']\n", 2, "origins.allowed", "an exact origin"),
        ("origins:\n  allow_null: maybe\n", 2, "origins.allow_null", "true or false"),
        ("auth:\n  ttl: 8 hours\n", 2, "auth.ttl", "10s, 15m, 8h, 30d"),
        ("auth:\n  ttl: -1\n", 2, "auth.ttl", "a duration from 1s"),
        ("auth:\n  ttl: false\n", 2, "auth.ttl", "a duration"),
        ("metrics:\n  update_interval: 1.5\n", 2, "metrics.update_interval", "whole seconds from 1s to 60s"),
        ("metrics:\n  update_interval: 61\n", 2, "metrics.update_interval", "from 1s to 60s"),
        ("limits:\n  messages_per_second: .nan\n", 2, "limits.messages_per_second", "a number from"),
        ("limits:\n  messages_per_second: 0\n", 2, "limits.messages_per_second", "a number from 0.01"),
        ("amiga:\n  timezone: Europe/Nowhere\n", 2, "amiga.timezone", "IANA"),
        ("amiga:\n  timezone: ../../etc/passwd\n", 2, "amiga.timezone", "IANA"),
        ("amiga:\n  root: 5\n", 2, "amiga.root", "a path"),
        ('amiga:\n  root: "/a\\0b"\n', 2, "amiga.root", "a path"),
        ('amiga:\n  name: "a\\eb"\n', 2, "amiga.name", "printable"),
        ("amiga:\n  root: ~nobody-here/x\n", 2, "amiga.root", "home folder of ~nobody-here"),
        ("log:\n  level: loud\n", 2, "log.level", "one of debug, info, warning, error"),
        ("server: 5\n", 1, "server", "a mapping"),
        ("- server\n", 1, "the file", "a mapping"),
        ("? [a]\n: 1\n", 1, "?", "the key of a setting"),
        ("server:\n  port: 1\n  port: 2\n", 3, "server.port", "twice"),
        ("server:\n  port: 1\nlog:\nserver:\n  host: a\n", 4, "server", "twice"),
        ("server:\n  port: [1\n", 3, "", "expected YAML"),
        ("server: &a\n  server: *a\n", 2, "server.server", "the key of a setting"),
        ("a: 1\n---\nb: 2\n", 2, "", "expected YAML"),
    ],
)
def test_fault_in_the_file_names_line_key_and_what_was_expected(refused, text, line, key, expected):
    message = refused(text)
    assert message.startswith(f"config.yaml:{line}: {key}")
    assert expected in message


def test_fault_in_the_environment_names_the_variable(refused):
    message = refused(AMIGA_WS_SERVER_PORT="many")
    assert message.startswith("environment AMIGA_WS_SERVER_PORT: server.port: expected a whole number")
    message = refused(AMIGA_WS_SERVER_PROT="1")
    assert message.startswith("environment: AMIGA_WS_SERVER_PROT: ")
    assert "did you mean AMIGA_WS_SERVER_PORT?" in message


def test_fault_in_an_override_names_it(refused):
    assert refused("", "server.port=many").startswith("--set: server.port: expected a whole number")
    assert "did you mean server.port?" in refused("", "server.prot=1")
    assert "expected section.key=value" in refused("", "server.port")


def test_fault_is_found_even_where_a_stronger_source_overrides_it(refused):
    assert refused("server: {port: many}", "server.port=1").startswith("config.yaml:1: server.port")


def test_missing_or_unreadable_file_is_one_line(tmp_path, refused):
    with pytest.raises(ConfigError, match=r"gone\.yaml: cannot read the configuration file: No such file"):
        load(Path("gone.yaml"), [], {}, tmp_path)
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path, [], {}, tmp_path)
    (tmp_path / "config.yaml").write_bytes(b"server: \xff")
    assert "UTF-8" in refused()


def test_a_life_longer_than_its_limit_is_refused_and_a_default_follows_it(loaded, refused):
    assert "auth.ttl: expected at most auth.max_ttl (1h), got 2h" in refused(
        "auth:\n  ttl: 2h\n  max_ttl: 1h\n"
    )
    assert loaded("auth: {max_ttl: 60}").auth.ttl == 60
    assert loaded("auth: {max_ttl: 60}").auth.login_ttl == 60


def test_password_in_a_wrong_url_is_not_repeated(refused):
    message = refused("server: {public_url: 'https://me:hunter2@a.example'}")
    assert "hunter2" not in message


def test_control_characters_do_not_reach_the_message(refused):
    assert "\x1b" not in refused("", "server.port=\x1b[2J")
    assert "\x1b" not in refused("", "\x1b[2J=1")


# -- whatever comes ------------------------------------------------------------------------------

YAMLISH = st.text(alphabet=st.sampled_from("server:port \n-[]{}&*!#'\"\\0xU9~|>%@,?1.ein"), max_size=80)


@given(YAMLISH | st.text(max_size=80) | st.builds("server:\n  port: {}".format, YAMLISH))
def test_any_text_as_a_file_loads_or_is_one_line(text):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "c.yaml")
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        _loads_or_says_one_line(file, [])


@given(st.sampled_from(sorted(ROWS)), st.text(max_size=40))
def test_any_text_as_a_value_loads_or_is_one_line(key, value):
    _loads_or_says_one_line(None, [f"{key}={value}"])


def _loads_or_says_one_line(file, overrides):
    try:
        load(file, overrides, {}, Path("/nonexistent"))
        message = "none"
    except ConfigError as error:
        message = str(error)
    assert message.isprintable()
