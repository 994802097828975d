"""What a run is told in: the table, JSON, the page, the progress, and the thresholds."""

from __future__ import annotations

import io
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import orjson
import pytest

from load.fakes import FakeServer, run, scenario
from load.steps import CALL, do, group, repeat
from load.test_load_checks import FANOUT
from trunkline_cli.load import html, table
from trunkline_cli.load.coordinator import Coordinator
from trunkline_cli.load.progress import Progress
from trunkline_cli.load.report import as_json
from trunkline_cli.load.result import Result, ServerUse
from trunkline_cli.load.stats import Interval
from trunkline_cli.load.thresholds import judge, metric, parse_threshold

SERVER = ServerUse(
    cpu_s=2.0,
    seconds=4.0,
    rss_before=50_000_000,
    rss_connected=51_600_000,
    rss_peak=60_000_000,
    connections=100,
    requests=1000,
    deliveries=4_000_000,
)


def made(**changes: object) -> Result:
    """Make a result of 2 s in which 1,000 requests were answered and 100,000 events delivered."""
    measured = Interval("measured", 10.0, 12.0)
    measured.requests, measured.deliveries, measured.bytes_in = 1000, 100_000, 23_000_000
    for number in range(1000):
        measured.record("thread/read", 1000 + number)
    measured.record("delivery", 2500, 100_000)
    setup = Interval("setup", 8.0, 10.0)
    setup.opened = 7
    setup.record("initialize", 400)
    closing = Interval("closing", 12.0, 12.5)
    result = Result(
        scenario=scenario(group(do("initialize"))),
        url="ws://127.0.0.1:1",
        workers=1,
        began_at=1_800_000_000.0,
        phases={"setup": setup, "measured": measured, "closing": closing},
        points=[],
        peak_connections=7,
        server=SERVER,
    )
    for name, value in changes.items():
        setattr(result, name, value)
    return result


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("requests", 1000),
        ("requests/s", 500),
        ("deliveries/s", 50_000),
        ("bytes/s", 11_500_000),
        ("errors", 0),
        ("breaches", 0),
        ("connections", 7),
        ("late sends", 0),
        ("request max", 0.001999),
        ("request p50", 0.001499),
        ("thread/read count", 1000),
        ("thread/read p99.9", 0.001998),
        ("delivery mean", 0.0025),
        ("initialize p50", 0.0004),
        ("server cpu per delivery", 0.5e-6),
        ("server cpu per request", 0.002),
        ("server memory", 60_000_000),
        ("server memory per connection", 16_000),
    ],
)
def test_a_figure_is_read_in_seconds_bytes_or_counts(name: str, value: float) -> None:
    assert metric(name, made()) == pytest.approx(value, rel=0.001)


@pytest.mark.parametrize("name", ["turn p50", "request p", "requestp99", "request p99 p99", "speed", ""])
def test_a_figure_that_there_is_not_is_none_and_fails_its_threshold(name: str) -> None:
    assert metric(name, made()) is None
    assert not judge(parse_threshold(f"{name or 'x'} >= 0"), made()).passed


def test_the_servers_figures_need_a_server_that_is_watched() -> None:
    assert metric("server memory", made(server=None)) is None


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ("request p99 < 50ms", True),
        ("request p99 < 1ms", False),
        ("request p99<1990us", True),
        ("delivery max <= 2501µs", True),
        ("deliveries/s > 49999", True),
        ("deliveries/s > 50000", False),
        ("deliveries/s >= 50000", True),
        ("errors == 0", True),
        ("errors == 1", False),
        ("server memory per connection <= 16KB", True),
        ("server memory < 0.05GB", False),
    ],
)
def test_a_threshold_decides(text: str, passed: bool) -> None:
    assert judge(parse_threshold(text), made()).passed is passed


@pytest.mark.parametrize("text", ["fast", "p99 < ", "p99 < 5 parsecs", "< 5", "a => 5", "a < -1"])
def test_what_is_no_threshold_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as 'request p99 < 50ms'"):
        parse_threshold(text)


def test_a_missed_threshold_a_breach_something_left_or_something_missing_is_no_pass() -> None:
    assert made().passed
    assert not made(verdicts=[judge(parse_threshold("errors == 1"), made())]).passed
    assert not made(left_over=["actor x"]).passed
    assert not made(missing=["worker 0 died"]).passed
    assert not made(unfinished=1).passed
    broken = made()
    broken.measured.breach("order", "connection 1: gap")
    assert not broken.passed


def test_the_table_tells_what_happened() -> None:
    result = made(left_over=["thread pump"], missing=["worker 1 died"], unfinished=3, interrupted=True)
    result.measured.errors["connection lost: reset"] = 2
    result.measured.refused = 20
    result.measured.expected["malformed, unmasked: close 1002"] = 4
    result.measured.breach("order", "connection 1: thread t: gap: expected event 5, got 7")
    result.verdicts = [judge(parse_threshold("errors == 0"), result)]

    text = table.render(result)

    for line in (
        "measured      2.0 s (ended early)",
        "connections   7 opened, 7 at a time, 4/s while connecting",
        "requests      1,000, 500/s, 20 of them refused",
        "deliveries    100,000, 50,000/s",
        "thread/read           1,000  ",
        "initialize (setup)        1  ",
        "server CPU    2.00 s in 4.0 s, 50% of a core",
        "0.50 µs per delivery",
        "16.0 KB per connection",
        "2  connection lost: reset",
        "4  malformed, unmasked: close 1002",
        "1  order: first connection 1: thread t: gap: expected event 5, got 7",
        "thread pump",
        "worker 1 died",
        "3 connections were still waiting at the end",
        "FAIL  errors == 0  (2)",
    ):
        assert line in text
    assert text.endswith("FAILED\n")


def test_the_table_says_when_the_load_side_could_not_keep_up() -> None:
    slow, late = made(), made()
    slow.measured.cpu_s = 1.95
    late.measured.planned_sends, late.measured.late_sends = 100, 2

    assert "could not keep up" not in table.render(made())
    assert "could not keep up" in table.render(slow)
    assert "100 rounds planned, 2 begun more than 10 ms late" in table.render(late)
    assert "could not keep up" in table.render(late)


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (0, "0 µs"),
        (999, "999 µs"),
        (1240, "1.24 ms"),
        (99_950, "100 ms"),
        (750_000, "750 ms"),
        (2.1e6, "2.1 s"),
    ],
)
def test_times_are_written_in_the_unit_that_fits(microseconds: float, text: str) -> None:
    assert table.duration_us(microseconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(512, "512 B"), (16_000, "16.0 KB"), (2_500_000, "2.5 MB"), (4.8e9, "4.8 GB")]
)
def test_sizes_are_written_in_the_unit_that_fits(value: float, text: str) -> None:
    assert table.size(value) == text


def test_json_has_the_table_the_distributions_and_the_series() -> None:
    result = run(FakeServer(), FANOUT)

    told = json.loads(orjson.dumps(as_json(result)))

    assert told["passed"] is True
    assert told["deliveries"]["count"] == 4 * 3 * 24
    delivery = told["latencies"]["delivery"]
    assert sum(count for _, _, count in delivery["bucketsUs"]) == delivery["count"] == 4 * 3 * 24
    assert told["latencies"]["initialize"]["phase"] == "setup"
    in_series = sum(point["deliveriesPerSecond"] for point in told["series"]) * 0.5
    assert in_series == pytest.approx(told["deliveries"]["count"])
    assert told["scenario"]["groups"][0] == {"name": "subscribers", "connections": 3}


class Page(HTMLParser):
    """Collects what a page loads, and the text of its parts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "data", "srcset")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_stands_alone_and_its_plots_are_well_formed() -> None:
    result = run(FakeServer(), FANOUT)
    result.points = [replace(result.points[0], at_s=number / 2, server_cpu=0.5) for number in range(1, 4)]

    text = html.page(result)

    page = Page(text)
    assert page.sources == []
    assert not re.search(r"https?://|@import|url\(", text)
    plots = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    for plot in plots:
        ET.fromstring(plot)
        assert "nan" not in plot
    for title in ("Latency by percentile", "Deliveries a second", "Latency distribution: delivery"):
        assert title in page.text
    assert "passed" in page.text


def test_the_page_escapes_what_a_server_says() -> None:
    result = made()
    result.measured.errors["<script>alert(1)</script>"] = 1
    result.measured.breach("order", "<img src=x>")

    text = html.page(result)

    assert Page(text).sources == []
    assert "&lt;script&gt;alert(1)" in text


def test_a_run_in_which_nothing_happened_has_a_page_too() -> None:
    empty = made(server=None)
    empty.phases["measured"] = Interval("measured", 10.0, 12.0)

    assert "passed" in Page(html.page(empty)).text
    assert table.render(empty).endswith("passed\n")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def coordinator() -> Coordinator:
    return Coordinator(scenario(group(do("initialize") + repeat("times = 2", CALL))), 1, lambda _: None, 0.0)


def test_progress_on_a_terminal_is_one_line_that_changes_and_goes() -> None:
    stream = Terminal()
    progress = Progress(stream)

    progress.show(coordinator(), 0.0)
    progress.show(coordinator(), 0.25)
    progress.end()

    assert "\n" not in stream.getvalue()
    assert "░" in stream.getvalue()
    assert "0/1 connections" in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[K")


def test_progress_elsewhere_is_a_plain_line_now_and_then() -> None:
    stream = io.StringIO()
    progress = Progress(stream)

    for quarter in range(20):
        progress.show(coordinator(), quarter / 4)
    progress.end()

    lines = stream.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["0.0", "2.0", "4.0"]
    assert "\x1b" not in stream.getvalue()
