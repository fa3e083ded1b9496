"""``data.custom_cls``: verl's data set with N problems in every prompt, packed differently in every epoch.

    data.custom_cls.path=pkg://verl_efficiency.verl.dataset data.custom_cls.name=PackedDataset
    data.dataloader_num_workers=0 +data.efficiency.problems=3

verl builds this class for training and for validation files without saying which is which. The rows say it: a file whose
``extra_info.split`` is ``data.efficiency.split`` (``train``) is packed, any other file is left as it is.
"""

import bisect
from typing import Any

from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.utils.tokenizer import normalize_token_ids

from verl_efficiency.data.dataset import RepackedRows
from verl_efficiency.data.packing import prompt_text
from verl_efficiency.data.problems import read_problems
from verl_efficiency.data.settings import PackingSettings
from verl_efficiency.settings import SettingsError, build_settings


class PackedDataset(RLHFDataset):
    """verl's ``RLHFDataset`` over packed rows; takes the arguments that verl gives.

    Settings come from ``data.efficiency`` (:class:`PackingSettings`) and the seed from ``data.seed`` (null counts as 0, since
    verl's own order is then fixed too). ``data.train_max_samples`` counts problems, not packs.

    verl's loader saves the epoch in ``data.pt``, so a resumed run sees the packs that the uninterrupted run would have seen.
    One exception: the V0 trainer (verl 0.8, or ``trainer.use_v1=False``) discards ``data.pt`` when it resumes exactly between
    two epochs, and then repeats the order and the packs of the first epoch.

    With ``data.filter_overlong_prompts``, the longest problems are left out until the N longest remaining ones fit together
    into ``data.max_prompt_length`` tokens. Then every pack fits, and all epochs have the same length.

    Raises:
        SettingsError: see ``read_problems``; no ``extra_info.split``, or packed and other rows in one file;
            ``data.dataloader_num_workers`` above 0; no problem short enough.
    """

    def __init__(self, data_files: Any, tokenizer: Any, config: Any, processor: Any = None, max_samples: int = -1):
        self.settings = build_settings(PackingSettings, config.get("efficiency"), "data.efficiency")
        super().__init__(data_files, tokenizer, config, processor=processor, max_samples=max_samples)

    def _read_files_and_tokenize(self) -> None:
        super()._read_files_and_tokenize()
        if not self._is_packed_split():
            return
        if self.config.get("dataloader_num_workers", 0) > 0:
            raise SettingsError(
                f"data.dataloader_num_workers: must be 0 with {type(self).__name__}, got "
                f"{self.config.dataloader_num_workers}: loader workers do not see where an epoch ends (they would gain "
                "nothing: a row costs microseconds)"
            )
        rows = self.dataframe.to_list()
        if self.filter_overlong_prompts:
            rows = self._without_longest(rows)
        self.dataframe = RepackedRows(rows, self.settings, seed=self.config.get("seed") or 0)
        print(f"packed dataset len: {len(self.dataframe)} packs of {self.settings.problems} of {len(rows)} problems")

    def _is_packed_split(self) -> bool:
        splits = {(info or {}).get("split") for info in self.dataframe["extra_info"]}
        if None in splits or (self.settings.split in splits and len(splits) > 1):
            raise SettingsError(
                f"data.efficiency.split: every row of {', '.join(self.data_files)} needs an extra_info.split, which is "
                f"{self.settings.split!r} in all rows (they are packed) or in none; found {sorted(map(str, splits))}"
            )
        return splits == {self.settings.split}

    def _without_longest(self, rows: list[dict]) -> list[dict]:
        """Without the longest problems, so that the N longest remaining ones fit into one prompt together."""
        size = self.settings.problems
        problem_set = read_problems(rows, self.settings)
        questions = [problem.question for problem in problem_set.problems]
        tokens = [len(ids) for ids in self.tokenizer(questions, add_special_tokens=False)["input_ids"]]
        longest_first = sorted(range(len(rows)), key=lambda number: -tokens[number])

        def fits(left_out: int) -> bool:
            pack = [questions[number] for number in longest_first[left_out : left_out + size]]
            return self._prompt_tokens(problem_set.system, prompt_text(pack, self.settings)) <= self.max_prompt_length

        most = max(len(rows) - size, 0)
        if not fits(most):
            raise SettingsError(
                f"data.max_prompt_length: even the {size} shortest problems take more than {self.max_prompt_length} tokens "
                "together; raise it or lower data.efficiency.problems"
            )
        fewest = bisect.bisect_left(range(most), True, key=fits)
        kept = set(longest_first[fewest:])
        print(
            f"packing leaves out the {fewest} longest of {len(rows)} problems, so that {size} problems always fit into "
            f"data.max_prompt_length={self.max_prompt_length}"
        )
        return [row for number, row in enumerate(rows) if number in kept]

    def _prompt_tokens(self, system: str | None, text: str) -> int:
        messages = [{"role": "user", "content": text}]
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        options = dict(self.apply_chat_template_kwargs)
        if self.tool_schemas is not None:
            options["tools"] = self.tool_schemas
        options |= {"add_generation_prompt": True, "tokenize": True, "return_dict": False}
        return len(normalize_token_ids(self.tokenizer.apply_chat_template(messages, **options)))

    def __getitems__(self, numbers: list[int]) -> list[dict]:
        if isinstance(self.dataframe, RepackedRows):
            self.dataframe.count_batch(len(numbers))
        return [self[number] for number in numbers]

    def state_dict(self) -> dict:
        return self.dataframe.state_dict() if isinstance(self.dataframe, RepackedRows) else {}

    def load_state_dict(self, state: dict) -> None:
        if isinstance(self.dataframe, RepackedRows):
            self.dataframe.load_state_dict(state)
