"""An agent that packs files: the input `*.log` makes an archive of the files that match."""

from __future__ import annotations

import fnmatch
import zipfile
from pathlib import Path

from trunkline.agents.base import Agent, Decision, Question, Turn, input_text
from trunkline.errors import TurnFailed, TurnInterrupted

METHODS = {"deflate": zipfile.ZIP_DEFLATED, "store": zipfile.ZIP_STORED}
QUESTION = Question("method", "Method", "Which method?", (("deflate", "smaller"), ("store", "faster")))


class Packer(Agent):
    """Packs files of the thread's directory, after asking."""

    def run_turn(self, turn: Turn) -> None:
        self._pack(turn, turn.text.strip())
        # What the user sent meanwhile is one more pattern.
        while (steer := turn.wait_steer(timeout_s=0)) is not None:
            self._pack(turn, input_text(steer).strip())

    def _pack(self, turn: Turn, pattern: str) -> None:
        files = self._list_files(turn, pattern)
        answers = turn.ask_user([QUESTION])
        method = answers.get(QUESTION.id, ("deflate",))[0]
        if method not in METHODS:
            raise TurnFailed(f"unknown method `{method}`")

        archive = turn.cwd / "packed.zip"
        item = turn.file_change([{"path": str(archive), "kind": {"type": "add"}, "diff": ""}])
        decision = item.ask_approval(reason=f"pack {len(files)} files")
        if decision.accepted:
            self._write(turn, archive, files, METHODS[method])
            item.complete("completed")
        else:
            item.complete("failed" if decision is Decision.FAILED else "declined")
        if decision is Decision.CANCEL:
            raise TurnInterrupted

    def _list_files(self, turn: Turn, pattern: str) -> list[Path]:
        try:
            paths = sorted(turn.cwd.iterdir())
        except OSError as error:
            raise TurnFailed(f"cannot read {turn.cwd}: {error.strerror}") from error
        files = [path for path in paths if path.is_file() and fnmatch.fnmatch(path.name, pattern)]
        with turn.message() as message:
            for file in files:
                message.write(f"{file.name}\n")
            message.write(f"{len(files)} files match {pattern}")
        return files

    def _write(self, turn: Turn, archive: Path, files: list[Path], method: int) -> None:
        try:
            with zipfile.ZipFile(archive, "x", method) as packed:
                for file in files:
                    turn.check()
                    packed.write(file, file.name)
        except FileExistsError as error:
            raise TurnFailed(f"{archive.name} exists already") from error
        except BaseException:
            # An interrupt is one of these: leave nothing half done, and let it pass.
            archive.unlink(missing_ok=True)
            raise
