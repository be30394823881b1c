"""The host as psutil tells it, quantised."""

from __future__ import annotations

import os
import time

import psutil
import pytest

from amiga_ws.collectors import host
from amiga_ws.collectors.host import HostCollector, _Rates, told_percent, two_digits, used_share


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, 0.0), (-3.0, 0.0), (12_345.0, 12_000.0), (0.0567, 0.057), (99.6, 100.0), (1.0, 1.0)],
)
def test_rates_keep_two_significant_digits(value, expected):
    assert two_digits(value) == pytest.approx(expected)


def test_a_percentage_is_told_anew_when_it_is_more_than_one_point_off():
    assert [told_percent(1.0, read) for read in (0.0, 1.9, 2.0, 2.1, 57.3)] == [1.0, 1.0, 1.0, 2.0, 57.0]
    assert told_percent(None, 0.4) == 0.0


def test_used_bytes_do_not_move_within_a_tenth_of_a_percent():
    total = 16 << 30
    assert used_share(total, 8 << 30) == used_share(total, (8 << 30) + (1 << 20))
    assert used_share(total, 8 << 30)[1] == 50.0
    assert used_share(0, 0) == (0, 0.0)


def test_a_first_reading_has_no_rate_and_a_reset_counter_gives_none():
    rates = _Rates()
    assert rates.update(10.0, 1000, 1000) == (None, None)
    assert rates.update(12.0, 3000, 1000) == (1000.0, 0.0)
    assert rates.update(16.0, 9000, 9000) == (1000.0, 0.0)  # a rate is the mean of five seconds
    assert rates.update(17.0, 100, 11000) == (None, 2000.0)


def test_a_first_rate_does_not_wait_for_five_seconds():
    rates = _Rates()
    assert rates.update(10.0, 1000, 1000) == (None, None)
    assert rates.update(10.1, 9000, 9000) == (None, None)  # noise
    assert rates.update(10.5, 2000, 1500) == (2000.0, 1000.0)


def test_a_reading_describes_this_host_and_this_process():
    collector = HostCollector(clock=lambda: 1234.0)
    facts = collector.collect(frozenset())
    system = facts.system
    assert facts.sources["host"].state == "ok"
    assert facts.sources["host"].as_of == 1234.0
    assert system.memory.total == psutil.virtual_memory().total
    assert system.memory.used is not None
    assert 0 < system.memory.used < system.memory.total
    assert len(system.per_cpu) == psutil.cpu_count()
    assert system.load is not None
    assert system.processes.monitor is not None
    assert system.processes.monitor.pid == os.getpid()
    assert system.processes.amiga is None
    assert system.disks
    assert all(0 <= disk.percent <= 100 for disk in system.disks)
    collector.close()


def test_psutils_first_answer_which_is_always_zero_is_never_shown(monkeypatch):
    asked = []

    def cpu_percent(interval=None, percpu=False):
        known = percpu in asked
        asked.append(percpu)
        value = 42.0 if known else 0.0
        return [value, value] if percpu else value

    monkeypatch.setattr(psutil, "cpu_percent", cpu_percent)
    system = HostCollector().collect(frozenset()).system
    assert (system.cpu_percent, system.per_cpu) == (42.0, [42.0, 42.0])


def test_cpu_over_next_to_no_time_is_not_read():
    """Of a millisecond a core was all busy or all idle."""
    collector = HostCollector()
    told = collector.collect(frozenset()).system
    readings = [collector.collect(frozenset()).system for _ in range(20)]
    assert {tuple(one.per_cpu) for one in readings} == {tuple(told.per_cpu)}
    time.sleep(host.FIRST_SPAN_S)
    before = collector._cpu_read
    collector.collect(frozenset())
    assert collector._cpu_read > before


def test_memory_and_our_own_process_are_read_every_five_seconds(monkeypatch):
    """They move all the time, and each step would be news for everybody."""
    total = 16 << 30
    used = iter(range(1 << 30, total, 1 << 30))
    memory = type(psutil.virtual_memory())

    def virtual_memory():
        return memory(total, total - next(used), *[0] * (len(memory._fields) - 2))

    monkeypatch.setattr(psutil, "virtual_memory", virtual_memory)
    collector = HostCollector()
    first = collector._read_calm(10.0)
    assert collector._read_calm(14.9) is first
    later = collector._read_calm(15.0)
    assert (first[0].used, later[0].used) == (used_share(total, 1 << 30)[0], used_share(total, 2 << 30)[0])
    assert first[2] is not None
    assert first[2].pid == os.getpid()


def test_what_goes_over_the_loopback_is_no_network(monkeypatch):
    def counters(*, pernic):
        assert pernic
        each = {"lo": 7_000_000, "eth0": 1000, "wlan0": 200}
        return {name: snetio(n, 2 * n, 0, 0, 0, 0, 0, 0) for name, n in each.items()}

    snetio = type(psutil.net_io_counters())
    monkeypatch.setattr(psutil, "net_io_counters", counters)
    assert host._traffic() == (2400, 1200)


def test_named_disks_are_shown_and_a_missing_one_is_left_out(tmp_path):
    facts = HostCollector(disks=(str(tmp_path), str(tmp_path / "gone"))).collect(frozenset())
    assert [disk.mount for disk in facts.system.disks] == [str(tmp_path)]


def test_a_mount_that_cannot_be_looked_at_is_left_out_alone(tmp_path, monkeypatch):
    """A name that the kernel refuses stands for another user's stick: root may enter that one."""
    partition = type(psutil.disk_partitions()[0])
    mounts = [str(tmp_path), str(tmp_path / ("x" * 300))]
    parts = [partition(f"/dev/sd{place}", mount, "ext4", "rw") for place, mount in enumerate(mounts)]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: parts)
    system = HostCollector().collect(frozenset()).system
    assert [disk.mount for disk in system.disks] == [str(tmp_path)]
    assert system.memory.total is not None


def test_a_disk_whose_name_is_no_text_can_be_told_to_viewers(tmp_path):
    """A stick that was named by another system, say."""
    mount = tmp_path / "st\udcffck"
    mount.mkdir()
    facts = HostCollector(disks=(str(mount),)).collect(frozenset())
    assert [disk.mount for disk in facts.system.disks] == [f"{tmp_path}/st\ufffdck"]


def test_what_the_platform_does_not_tell_is_unknown_not_zero(monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise psutil.AccessDenied

    for name in (
        "cpu_percent",
        "swap_memory",
        "net_io_counters",
        "disk_io_counters",
        "getloadavg",
        "boot_time",
    ):
        monkeypatch.setattr(psutil, name, refuse)
    system = HostCollector().collect(frozenset()).system
    assert system.cpu_percent is None
    assert system.per_cpu == []
    assert system.load is None
    assert system.swap.total is None
    assert system.network.rx_bytes_s is None
    assert system.disk_io.read_bytes_s is None
    assert system.boot_time is None
    assert system.memory.total is not None
