"""The teacher's average, split over ranks: the same as a whole copy on each of them."""

import multiprocessing
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from verl_efficiency.adapter.state import STARTS_AGAIN
from verl_efficiency.openrlhf.average import WeightAverage
from verl_efficiency.settings import SettingsError

RANKS, RATE, STEPS = 2, 0.25, 3


def model() -> nn.Module:
    torch.manual_seed(5)
    net = nn.Sequential(nn.Embedding(40, 6), nn.Linear(6, 6), nn.Linear(6, 3, bias=False)).bfloat16()
    net[1].bias.requires_grad_(False)  # as the base model beside an adapter
    return net


def after(net: nn.Module, step: int) -> None:
    """The same update on every rank."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator).bfloat16()


def weights(net: nn.Module) -> dict:
    return {name: value.detach().clone() for name, value in net.named_parameters()}


def run_rank(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS)
    net = model()
    average = WeightAverage(net, RATE)
    for step in range(STEPS):
        after(net, step)
        average.update()
    own = weights(net)
    average.exchange()
    taught = weights(net)
    average.exchange()
    again = weights(net)
    average.save(folder / "saved")
    torch.save((average.average, own, taught, again), folder / f"said_{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    processes = [multiprocessing.get_context("spawn").Process(target=run_rank, args=(r, folder)) for r in range(RANKS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    return folder


def whole() -> tuple[dict, dict]:
    """The recursion over all parameters in float32, and the actor's weights at the end."""
    net = model()
    expected = {name: value.detach().float().clone() for name, value in net.named_parameters() if value.requires_grad}
    for step in range(STEPS):
        after(net, step)
        for name, value in net.named_parameters():
            if value.requires_grad:
                expected[name] = (1 - RATE) * expected[name] + RATE * value.detach().float()
    return expected, weights(net)


def test_together_the_ranks_hold_the_average_once(folder):
    expected, _ = whole()
    shares = [torch.load(folder / f"said_{rank}.pt")[0] for rank in range(RANKS)]
    assert sorted(name for share in shares for name in share) == sorted(expected)
    for name, value in (item for share in shares for item in share.items()):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-6)
    sizes = [sum(value.numel() for value in share.values()) for share in shares]
    assert sizes == [240, 36 + 18]  # the embedding, and the rest


def test_every_rank_sees_the_whole_teacher_and_gets_its_own_weights_back(folder):
    expected, end = whole()
    for rank in range(RANKS):
        _, own, taught, again = torch.load(folder / f"said_{rank}.pt")
        for name, value in end.items():
            assert torch.equal(own[name], value)
            assert torch.equal(again[name], value)
            if name in expected:
                torch.testing.assert_close(taught[name], expected[name].bfloat16(), rtol=2**-8, atol=0)
            else:
                assert torch.equal(taught[name], value)
        assert not torch.equal(taught["0.weight"], own["0.weight"])


def test_one_rank_goes_on_from_the_files_of_two_and_clears_them_up(folder, tmp_path):
    expected, _ = whole()
    one = WeightAverage(model(), RATE)
    assert one.load(folder / "saved")
    for name, value in one.average.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-6)
    for file in (folder / "saved").glob("*.pt"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    one.save(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["verl_efficiency_teacher_0_of_1.pt"]
    assert WeightAverage(model(), RATE).load(tmp_path)


def test_a_missing_file_of_a_rank_is_named(folder, tmp_path):
    file = folder / "saved" / "verl_efficiency_teacher_0_of_2.pt"
    (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(SettingsError, match=r"no file holds 1\.weight"):
        WeightAverage(model(), RATE).load(tmp_path)
    (tmp_path / STARTS_AGAIN).touch()
    again = WeightAverage(model(), RATE)
    assert not again.load(tmp_path)
    assert torch.equal(again.average["0.weight"], model()[0].weight.float())  # and nothing of the file
