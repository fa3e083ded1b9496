"""Stored responses in the folders of checkpoints. Each checkpoint writes only what is new, and each folder is complete."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from verl_efficiency.data.files import replacing, write_lines
from verl_efficiency.methods.routing.variance_routing import StoredResponses
from verl_efficiency.settings import SettingsError

FOLDER = "verl_efficiency_responses"
MOST_FILES = 8  # a checkpoint that would have more writes everything into one


class ResponseFiles:
    """Writes and reads ``verl_efficiency_responses/0.jsonl, 1.jsonl, …`` of a checkpoint; later rows replace earlier ones.

    A row is ``{"prompt": name, "tokens": length, "text": response}``. The files of the checkpoint before become hard links,
    which take no space, and one more file holds the responses that are new or shorter since. So the user may delete any
    checkpoint without harm to others. All responses are written into one file if hard links fail (a file system without them,
    the checkpoint before deleted), if most rows are replaced, or after ``MOST_FILES`` files.
    """

    def __init__(self) -> None:
        self._files: list[Path] = []  # of the last checkpoint written or read
        self._rows = 0  # in these files
        self._written: dict[str, int] = {}  # prompt → tokens of its response in these files

    def write(self, state: StoredResponses, folder: Path) -> list[Path]:
        """Write ``state`` into the checkpoint ``folder``. Returns its files in the order in which they are read."""
        target = folder / FOLDER
        new = [prompt for prompt, tokens in state.lengths.items() if self._written.get(prompt) != tokens]
        files = self._linked(target) if self._rows + len(new) <= 2 * len(state.texts) else []
        if not files:
            new, self._rows = list(state.texts), 0
        if new:
            files.append(target / f"{len(files)}.jsonl")
            rows = ({"prompt": name, "tokens": state.lengths[name], "text": state.texts[name]} for name in new)
            write_lines(files[-1], rows)
        self._files, self._rows, self._written = files, self._rows + len(new), dict(state.lengths)
        return list(files)

    def read(self, files: Sequence[Path]) -> StoredResponses:
        """The responses of a checkpoint. The next checkpoint links to these files.

        Raises:
            SettingsError: a file is missing or damaged.
        """
        state = StoredResponses()
        self._rows = 0
        for file in files:
            try:
                with file.open(encoding="utf-8") as lines:
                    for line in lines:
                        row = json.loads(line)
                        state.texts[row["prompt"]], state.lengths[row["prompt"]] = row["text"], row["tokens"]
                        self._rows += 1
            except (OSError, ValueError, KeyError) as error:
                raise SettingsError(
                    f"the stored responses of the checkpoint cannot be read: {file}: {type(error).__name__}: {error}. Copy the "
                    "file from where the checkpoint was written, or resume from an earlier checkpoint"
                ) from None
        self._files, self._written = list(files), dict(state.lengths)
        return state

    def _linked(self, target: Path) -> list[Path]:
        """Hard links in ``target`` to the files of the checkpoint before; empty if that is not possible."""
        if len(self._files) >= MOST_FILES:
            return []
        files = [target / f"{number}.jsonl" for number in range(len(self._files))]
        try:
            for source, link in zip(self._files, files, strict=True):
                if source != link:
                    with replacing(link) as beside:
                        os.link(source, beside)
        except OSError:
            return []
        return files
