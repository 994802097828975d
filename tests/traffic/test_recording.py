"""That nothing is lost between a server that records its traffic and the one who reads it."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from traffic.reading import Record, Recordings, texts_of
from traffic.recording import HEAD, LINES, RECEIVED, TEXT_FRAMES, Recorder
from trunkline.transports.framing import TEXT_FRAMING


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    recorder = Recorder(tmp_path, "a program")
    yield recorder
    recorder.close()


def read(recordings: Recordings) -> list[Record]:
    return [record for _, records in recordings.read() for record in records]


def test_what_is_recorded_is_read_once_and_in_order(recorder: Recorder, tmp_path: Path) -> None:
    recordings = Recordings(tmp_path)
    recorder.record(RECEIVED, 1, b"one")
    recorder.record(LINES, 2, b"two\n")
    assert read(recordings) == [Record(RECEIVED, 1, b"one"), Record(LINES, 2, b"two\n")]

    recorder.record(LINES, 1, b"")

    assert read(recordings) == [Record(LINES, 1, b"")]
    assert read(recordings) == []


def test_a_file_is_removed_once_nobody_writes_it_any_more(recorder: Recorder, tmp_path: Path) -> None:
    recordings = Recordings(tmp_path)
    [first] = tmp_path.iterdir()
    read(recordings)
    assert list(tmp_path.iterdir()) == [first]

    recorder.record(LINES, 1, b"one\n")
    recorder.begin()
    recorder.record(LINES, 1, b"two\n")

    assert read(recordings) == [Record(LINES, 1, b"one\n"), Record(LINES, 1, b"two\n")]
    [second] = tmp_path.iterdir()
    assert second != first


def test_a_limit_on_the_size_of_files_costs_no_byte(recorder: Recorder, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        for number in range(10):
            recorder.record(LINES, number, b"x" * 1234)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert read(Recordings(tmp_path)) == [Record(LINES, number, b"x" * 1234) for number in range(10)]


def test_of_a_process_that_is_killed_all_whole_records_are_read(recorder: Recorder, tmp_path: Path) -> None:
    recorder.record(LINES, 1, b"whole\n")
    os.write(recorder._fd, HEAD.pack(LINES, 1, 100) + b"begun")

    assert read(Recordings(tmp_path)) == [Record(LINES, 1, b"whole\n")]


def test_the_program_is_known_by_its_command_line(recorder: Recorder, tmp_path: Path) -> None:
    [(recording, records)] = [
        (recording, list(records)) for recording, records in Recordings(tmp_path).read()
    ]

    assert records == []
    assert recording.program == "a program"


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_messages_in_frames_are_read_whatever_their_size(size: int) -> None:
    texts = [b"x" * size, b"between", b"y" * size]
    frames = b"".join(map(TEXT_FRAMING.frame, texts))

    assert texts_of(Record(TEXT_FRAMES, 1, frames)) == texts


def test_messages_on_lines_are_read_whatever_other_ends_of_lines_are_in_them() -> None:
    assert texts_of(Record(LINES, 1, "a\r b\u2028\n\nc\n".encode())) == ["a\r b\u2028".encode(), b"", b"c"]
