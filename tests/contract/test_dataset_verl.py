"""verl builds PackedDataset with its own factory, sampler and loader; epochs and restarts come out right."""

import json

import pytest

pytest.importorskip("verl")

from omegaconf import OmegaConf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torchdata.stateful_dataloader import StatefulDataLoader
from transformers import PreTrainedTokenizerFast
from verl.utils.dataset.rl_dataset import collate_fn

try:
    from verl.trainer.ppo.utils import create_rl_dataset, create_rl_sampler
except ImportError:  # verl 0.8
    from verl.trainer.main_ppo import create_rl_dataset, create_rl_sampler

from verl_efficiency.data import PackingSettings, load_problems, pack_rows, write_rows
from verl_efficiency.settings import SettingsError

TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"


@pytest.fixture(scope="module")
def tokenizer():
    """One token for each byte."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytewise = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate(letters)}, merges=[]))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=bytewise, eos_token="<eos>", pad_token="<pad>", chat_template=TEMPLATE
    )


def rows(count, split="train"):
    return [
        {
            "data_source": "sums",
            "prompt": [{"role": "user", "content": f"{number}+{number}?" + " " * number}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": str(2 * number)},
            "extra_info": {"index": number, "split": split},
        }
        for number in range(count)
    ]


def config(**changes):
    """The keys of verl's data config that its data set and loader read, with verl's defaults but for the workers."""
    data = {
        "train_batch_size": 3,
        "max_prompt_length": 512,
        "filter_overlong_prompts": False,
        "filter_overlong_prompts_workers": 1,
        "dataloader_num_workers": 0,
        "shuffle": True,
        "seed": 5,
        "custom_cls": {"path": "pkg://verl_efficiency.verl.dataset", "name": "PackedDataset"},
        "efficiency": {"problems": 2, "grouping": "random"},
    } | changes
    made = OmegaConf.create(data)
    OmegaConf.set_struct(made, True)
    return made


def build(path, tokenizer, cfg, is_train=True, **options):
    return create_rl_dataset([str(path)], cfg, tokenizer, None, is_train=is_train, **options)


def loader_of(dataset, cfg):
    """As trainer_base._init_dataloader builds it."""
    return StatefulDataLoader(
        dataset=dataset,
        batch_size=cfg.train_batch_size,
        num_workers=cfg.dataloader_num_workers,
        drop_last=True,
        collate_fn=collate_fn,
        sampler=create_rl_sampler(cfg, dataset),
    )


def packs_of(batch):
    return [tuple(json.loads(info["problem_ids"])) for info in batch["extra_info"]]


def epoch_packs(count, epoch):
    packed = pack_rows(rows(count), PackingSettings(problems=2, grouping="random"), [5, epoch])
    return {tuple(json.loads(row["extra_info"]["problem_ids"])) for row in packed}


@pytest.fixture
def train_file(tmp_path):
    write_rows(tmp_path / "train.parquet", rows(20))
    return tmp_path / "train.parquet"


def test_batches_hold_what_verl_reads(train_file, tokenizer):
    cfg = config()
    batch = next(iter(loader_of(build(train_file, tokenizer, cfg), cfg)))
    assert batch["dummy_tensor"].shape == (3, 1)
    for raw_prompt, reward_model, info, index in zip(
        batch["raw_prompt"], batch["reward_model"], batch["extra_info"], batch["index"], strict=True
    ):
        first, second = json.loads(info["problem_ids"])
        sections = raw_prompt[0]["content"].split("### Problem ")
        assert raw_prompt[0]["role"] == "user"
        assert sections[1].startswith(f"1\n{first}+{first}?")
        assert sections[2].startswith(f"2\n{second}+{second}?")
        assert json.loads(reward_model["ground_truth"]) == [str(2 * first), str(2 * second)]
        assert index == info["index"]
        tokenizer.apply_chat_template(raw_prompt, add_generation_prompt=True, tokenize=True)
    assert set(batch["data_source"]) == {"sums"}
    assert {"tools_kwargs", "interaction_kwargs", "uid"} - set(batch) == {"uid"}  # the trainer adds the uid


def test_every_epoch_is_packed_anew(train_file, tokenizer):
    cfg = config()
    loader = loader_of(build(train_file, tokenizer, cfg), cfg)
    assert len(loader.dataset) == 10
    for epoch in range(3):
        served = [pack for batch in loader for pack in packs_of(batch)]
        assert len(served) == len(set(served)) == 9  # drop_last
        assert set(served) <= epoch_packs(20, epoch)
    assert epoch_packs(20, 0) != epoch_packs(20, 1)


def fetch(loader, count):
    """As trainer_base._fetch_one_gen_batch: a new iterator where the old one is exhausted."""
    served, iterator = [], iter(loader)
    while len(served) < count:
        batch = next(iterator, None)
        if batch is None:
            iterator = iter(loader)
        else:
            served.append(packs_of(batch))
    return served


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 6, 7])
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_resumed_run_serves_the_packs_of_an_uninterrupted_one(train_file, tokenizer, tmp_path, stop, shuffle):
    import torch

    cfg = config(shuffle=shuffle)
    uninterrupted = fetch(loader_of(build(train_file, tokenizer, cfg), cfg), 10)
    interrupted = loader_of(build(train_file, tokenizer, cfg), cfg)
    assert fetch(interrupted, stop) == uninterrupted[:stop]
    torch.save(interrupted.state_dict(), tmp_path / "data.pt")
    resumed = loader_of(build(train_file, tokenizer, cfg), cfg)
    resumed.load_state_dict(torch.load(tmp_path / "data.pt", weights_only=False))
    assert fetch(resumed, 10 - stop) == uninterrupted[stop:]


def test_validation_files_stay_as_they_are(tmp_path, tokenizer):
    write_rows(tmp_path / "test.parquet", rows(7, split="test"))
    # As verl builds the validation loader; workers do not matter where nothing is packed.
    cfg = config(dataloader_num_workers=8, filter_overlong_prompts=True)
    dataset = build(tmp_path / "test.parquet", tokenizer, cfg, is_train=False)
    loader = StatefulDataLoader(dataset=dataset, batch_size=4, num_workers=0, shuffle=False, collate_fn=collate_fn)
    batches = list(loader)
    assert [row[0]["content"].strip() for batch in batches for row in batch["raw_prompt"]] == [
        f"{n}+{n}?" for n in range(7)
    ]
    assert [row["ground_truth"] for batch in batches for row in batch["reward_model"]] == [str(2 * n) for n in range(7)]
    assert len(loader.state_dict()) > 0


def test_packed_validation_files_stay_as_they_are(tmp_path, tokenizer):
    packed = pack_rows(rows(6, split="test"), PackingSettings(grouping="random"), seed=0)
    write_rows(tmp_path / "test3.parquet", packed)
    dataset = build(tmp_path / "test3.parquet", tokenizer, config(), is_train=False)
    assert [dataset[number]["raw_prompt"] for number in range(2)] == [row["prompt"] for row in packed]


def test_every_pack_of_every_epoch_fits_into_the_prompt(train_file, tokenizer):
    settings = {"problems": 2, "grouping": "random", "instruction": "", "separator": "\n"}
    # Problem n >= 10 takes 6 + n bytes. Around a pack of two: "<user>" 6, two headers "### Problem i\n" of 14, "\n" twice: 36.
    # The two longest together, with problems 0..15 kept: 21 + 20 + 36 = 77; with 0..16: 79.
    cfg = config(efficiency=settings, filter_overlong_prompts=True, max_prompt_length=78)
    dataset = build(train_file, tokenizer, cfg)
    assert len(dataset) == 8
    for _ in range(5):
        batch = dataset.__getitems__(range(8))
        assert {index for row in batch for index in json.loads(row["extra_info"]["problem_ids"])} == set(range(16))
        for row in batch:
            assert len(tokenizer.apply_chat_template(row["raw_prompt"], tokenize=True, return_dict=False)) <= 78
    assert len(build(train_file, tokenizer, config(efficiency=settings, filter_overlong_prompts=True))) == 10
    with pytest.raises(SettingsError, match="even the 2 shortest problems take more than 40 tokens"):
        build(train_file, tokenizer, config(efficiency=settings, filter_overlong_prompts=True, max_prompt_length=40))


def test_max_samples_counts_problems(train_file, tokenizer):
    assert len(build(train_file, tokenizer, config(), max_samples=8)) == 4


def test_what_would_go_wrong_later_is_refused_at_once(tmp_path, train_file, tokenizer):
    with pytest.raises(SettingsError, match=r"data.dataloader_num_workers: must be 0 with PackedDataset, got 8"):
        build(train_file, tokenizer, config(dataloader_num_workers=8))
    with pytest.raises(SettingsError, match=r"data\.efficiency.*did you mean 'problems'"):
        build(train_file, tokenizer, config(efficiency={"problem": 2}))
    with pytest.raises(SettingsError, match=r"unknown column 'extra_info.difficulty'"):
        build(train_file, tokenizer, config(efficiency={"problems": 2}))
    write_rows(tmp_path / "mixed.parquet", rows(3) + rows(3, split="test"))
    with pytest.raises(SettingsError, match=r"data.efficiency.split: every row of .* found \['test', 'train'\]"):
        build(tmp_path / "mixed.parquet", tokenizer, config())
    write_rows(tmp_path / "nameless.parquet", rows(3, split=None))
    with pytest.raises(SettingsError, match=r"found \['None'\]"):
        build(tmp_path / "nameless.parquet", tokenizer, config())


def test_a_file_packed_from_json_lines_loads_with_verls_own_data_set(tmp_path, tokenizer):
    (tmp_path / "p.jsonl").write_text(
        "\n".join(json.dumps({"question": f"Q{n} é", "answer": f"work #### {n}"}) for n in range(6)), encoding="utf-8"
    )
    problems = load_problems(tmp_path / "p.jsonl", answer_after="####")
    packed = pack_rows(problems, PackingSettings(grouping="random"), seed=0)
    write_rows(tmp_path / "packed.parquet", packed)
    dataset = build(tmp_path / "packed.parquet", tokenizer, config(custom_cls={"path": None, "name": None}))
    assert type(dataset).__name__ == "RLHFDataset"
    assert [dataset[number]["reward_model"] for number in range(2)] == [row["reward_model"] for row in packed]
