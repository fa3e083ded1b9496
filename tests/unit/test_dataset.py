"""The data set that repacks in every epoch: right at every boundary, and after a restart."""

import json

import pytest
import torch
from torch.utils.data import DataLoader

from verl_efficiency.data import PackingSettings, pack_rows
from verl_efficiency.data.dataset import RepackedRows
from verl_efficiency.settings import SettingsError

CHOSEN = PackingSettings(problems=2, grouping="random")


def rows(count):
    return [
        {
            "data_source": "sums",
            "prompt": [{"role": "user", "content": f"{number}+{number}?"}],
            "reward_model": {"style": "rule", "ground_truth": str(2 * number)},
            "extra_info": {"index": number, "split": "train"},
        }
        for number in range(count)
    ]


def ids(row):
    return tuple(json.loads(row["extra_info"]["problem_ids"]))


def batches(loader):
    return [[ids(row) for row in batch] for batch in loader]


def packs_of_epoch(count, epoch, seed=7):
    return {ids(row) for row in pack_rows(rows(count), CHOSEN, [seed, epoch])}


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("batch_size", [1, 3, 4, 10])
def test_each_pass_of_a_loader_is_one_epoch(batch_size, drop_last):
    data = RepackedRows(rows(20), CHOSEN, seed=7)
    loader = DataLoader(data, batch_size=batch_size, drop_last=drop_last, shuffle=True, collate_fn=list)
    for epoch in range(4):
        served = [pack for batch in batches(loader) for pack in batch]
        assert len(served) == len(set(served)) == (10 // batch_size * batch_size if drop_last else 10)
        assert set(served) <= packs_of_epoch(20, epoch)
        assert data.epoch == epoch
    assert packs_of_epoch(20, 0) != packs_of_epoch(20, 1)


def test_looking_at_a_row_does_not_count():
    data = RepackedRows(rows(20), CHOSEN, seed=7)
    for _ in range(5):
        assert {ids(data[number]) for number in range(10)} == packs_of_epoch(20, 0)
    assert data.epoch == 0
    assert len(data) == 10


def loader_of(data, batch_size):
    """verl's data loader; its package comes with verl."""
    loading = pytest.importorskip("torchdata.stateful_dataloader")
    from torchdata.stateful_dataloader.sampler import RandomSampler

    generator = torch.Generator()
    generator.manual_seed(1)
    return loading.StatefulDataLoader(
        data, batch_size=batch_size, drop_last=True, collate_fn=list, sampler=RandomSampler(data, generator=generator)
    )


@pytest.mark.parametrize("stop", range(1, 10))
def test_a_restart_after_any_batch_serves_what_would_have_come(stop):
    loader = loader_of(RepackedRows(rows(20), CHOSEN, seed=7), batch_size=3)

    def serve(loader, count, served=()):
        # As verl's V1 trainer fetches: one iterator after the other, in the middle of an epoch or at its end.
        served, iterator = list(served), iter(loader)
        while len(served) < count:
            batch = next(iterator, None)
            if batch is None:
                iterator = iter(loader)
            else:
                served.append([ids(row) for row in batch])
        return served

    uninterrupted = serve(loader, 12)
    before = loader_of(RepackedRows(rows(20), CHOSEN, seed=7), batch_size=3)
    first = serve(before, stop)
    state = before.state_dict()
    after = loader_of(RepackedRows(rows(20), CHOSEN, seed=7), batch_size=3)
    after.load_state_dict(state)
    assert serve(after, 12, first) == uninterrupted


@pytest.mark.parametrize(
    "other",
    [
        RepackedRows(rows(22), CHOSEN, seed=7),
        RepackedRows(rows(20), CHOSEN, seed=8),
        RepackedRows(rows(20), PackingSettings(problems=4, grouping="random"), seed=7),
    ],
)
def test_a_state_of_other_packs_is_refused(other):
    state = RepackedRows(rows(20), CHOSEN, seed=7).state_dict()
    with pytest.raises(SettingsError, match="the checkpoint belongs to other"):
        other.load_state_dict(state)
