"""The teacher's weights: an exponential average of the shards that the actor trains, exchangeable with them."""

import socket
import weakref
from pathlib import Path

import pytest

pytest.importorskip("verl")

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from verl_efficiency.adapter.state import STARTS_AGAIN
from verl_efficiency.settings import SettingsError
from verl_efficiency.verl.average import WeightAverage

RATE = 0.25


def model():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def weights_of(module):
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def train(module, steps=1):
    for step in range(steps):
        module.zero_grad()
        module(torch.full((2, 6), 1.0 + step)).square().sum().backward()
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_recursion_over_ten_steps():
    module = model()
    average = WeightAverage(module, RATE)
    expected = {name: value.double() for name, value in weights_of(module).items()}
    for _ in range(10):
        train(module)
        average.update()
        for name, value in weights_of(module).items():
            expected[name] = (1 - RATE) * expected[name] + RATE * value.double()
    assert not same(weights_of(module), average.average)
    for name, value in average.average.items():
        torch.testing.assert_close(value.double(), expected[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("rate", "moves"), [(0.0, False), (1.0, True)])
def test_the_ends_of_the_rate(rate, moves):
    module = model()
    start = weights_of(module)
    average = WeightAverage(module, rate)
    train(module)
    average.update()
    assert same(average.average, weights_of(module) if moves else start)


@pytest.mark.parametrize("fails", [False, True])
def test_within_the_model_is_the_teacher_and_afterwards_the_student_bit_for_bit(fails):
    module = model()
    average = WeightAverage(module, RATE)
    train(module, 3)
    average.update()
    student, teacher = weights_of(module), {name: value.clone() for name, value in average.average.items()}
    addresses = [parameter.data_ptr() for parameter in module.parameters()]

    def visit():
        with average.in_place():
            assert same(weights_of(module), teacher)
            if fails:
                raise KeyError("the pass failed")

    if fails:
        with pytest.raises(KeyError, match="the pass failed"):
            visit()
    else:
        visit()
    assert same(weights_of(module), student)
    assert same(average.average, teacher)
    assert [parameter.data_ptr() for parameter in module.parameters()] == addresses  # the optimiser's own tensors


class Copies(TorchDispatchMode):
    """The most bytes that copies made within were alive at once."""

    def __init__(self):
        super().__init__()
        self.alive = self.most = self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        new = isinstance(result, torch.Tensor) and not any(
            isinstance(given, torch.Tensor) and given.data_ptr() == result.data_ptr() for given in arguments
        )
        if new and result.numel():
            size = result.numel() * result.element_size()
            self.alive, self.count = self.alive + size, self.count + 1
            self.most = max(self.most, self.alive)
            weakref.finalize(result, self._freed, size)
        return result

    def _freed(self, size):
        self.alive -= size


def test_the_exchange_needs_memory_for_two_tensors_not_for_a_model():
    module = nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(12)))
    average = WeightAverage(module, RATE)
    with Copies() as copies:
        with average.in_place():
            pass
        average.update()
    assert copies.count == 24  # it does see them: one per tensor and exchange
    assert copies.most <= 2 * 64 * 64 * 4
    assert copies.alive == 0


def test_saved_and_restored(tmp_path):
    module = model()
    average = WeightAverage(module, RATE)
    train(module)
    average.update()
    kept = {name: value.clone() for name, value in average.average.items()}
    average.save(str(tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["teacher_world_size_1_rank_0.pt"]

    again = WeightAverage(model(), RATE)
    assert not same(again.average, kept)
    assert again.load(str(tmp_path)) is True
    assert same(again.average, kept)
    train(module)
    average.update()
    again.module.load_state_dict(module.state_dict())
    again.update()
    assert same(again.average, average.average)  # it goes on as the other


def test_a_checkpoint_without_a_teacher_is_refused_and_the_user_may_allow_it(tmp_path):
    module = model()
    average = WeightAverage(module, RATE)
    start = weights_of(module)
    train(module)
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(SettingsError, match=f"{folder}.*touch {folder / STARTS_AGAIN}"):
            average.load(str(folder))
    (tmp_path / STARTS_AGAIN).touch()
    assert average.load(str(tmp_path)) is False
    assert same(average.average, start)
    average.restart()
    assert same(average.average, weights_of(module))
    train(module)
    assert not same(average.average, weights_of(module))  # a copy, not the weights themselves


def test_another_number_of_ranks_is_refused_with_the_fix(tmp_path):
    average = WeightAverage(model(), RATE)
    torch.save(average.average, tmp_path / "teacher_world_size_4_rank_0.pt")
    with pytest.raises(SettingsError, match=r"teacher_world_size_4_rank_0.pt is from another number of ranks"):
        average.load(str(tmp_path))


def test_a_model_with_other_weights_is_not_loaded_in_silence(tmp_path):
    WeightAverage(model(), RATE).save(str(tmp_path))
    other = WeightAverage(nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3), nn.Linear(3, 3)), RATE)
    with pytest.raises(KeyError):
        other.load(str(tmp_path))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_refused_with_both_settings_named(dtype):
    with pytest.raises(ValueError, match=r"0\.weight is torch\.\w*float16") as caught:
        WeightAverage(model().to(dtype), RATE)
    assert "actor_rollout_ref.actor.fsdp_config.model_dtype=float32" in str(caught.value)
    assert "algorithm.efficiency.teacher_regularization=none" in str(caught.value)


def test_of_a_lora_model_only_the_adapter_is_averaged():
    peft = pytest.importorskip("peft")
    base = model()
    base_weights = weights_of(base)
    adapted = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["0", "2"], init_lora_weights=False))
    average = WeightAverage(adapted, RATE)
    assert len(average.average) == 4
    assert all("lora_" in name for name in average.average)
    start = {name: value.clone() for name, value in average.average.items()}
    train(adapted, 2)
    average.update()
    adapter = {name: p.detach().clone() for name, p in adapted.named_parameters() if p.requires_grad}
    teacher = {name: (1 - RATE) * start[name] + RATE * adapter[name] for name in start}

    x, scaling = torch.randn(4, 6), 8 / 2  # lora_alpha / r, both at their defaults but for r

    def layer(number, x):
        prefix = f"base_model.model.{number}."
        a, b = (teacher[f"{prefix}lora_{side}.default.weight"] for side in "AB")
        return x @ (base_weights[f"{number}.weight"] + scaling * b @ a).T + base_weights[f"{number}.bias"]

    before = adapted(x).detach()
    with torch.no_grad(), average.in_place():
        said = adapted(x)
    torch.testing.assert_close(said, layer(2, layer(0, x).tanh()), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(said, before, atol=1e-4)
    assert torch.equal(adapted(x), before)
    frozen = {n: p for n, p in adapted.named_parameters() if not p.requires_grad}
    assert all(torch.equal(p, base_weights[n.replace("base_model.model.", "").replace("base_layer.", "")])
               for n, p in frozen.items())  # fmt: skip


def _average_on_a_rank(rank, mesh, folder, reshard):
    """FSDP2 as verl wraps a model; after a forward pass its parameters may be whole."""
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    plain, module = model(), model()
    for layer in (module[0], module[2]):
        fully_shard(layer, mesh=mesh, reshard_after_forward=reshard)
    fully_shard(module, mesh=mesh, reshard_after_forward=reshard)
    average, whole = WeightAverage(module, RATE), WeightAverage(plain, RATE)
    x = torch.ones(2, 6)

    def full():
        for part in (module[0], module[2], module):
            part.reshard()
        return {
            name: (p.full_tensor() if isinstance(p, DTensor) else p).detach().clone()
            for name, p in module.named_parameters()
        }

    for _ in range(3):
        for one in (plain, module):
            one.zero_grad()
            one(x).square().sum().backward()
        with torch.no_grad():
            for one in (plain, module):
                for parameter in one.parameters():
                    parameter -= 0.1 * parameter.grad
            module(x)  # leaves the parameters whole unless they are resharded
            average.update()
            whole.update()
    assert {name: tuple(part.shape) for name, part in average.average.items()} == {
        "0.weight": ((3, 6), (2, 6))[rank],  # 5 rows over two ranks
        "0.bias": ((3,), (2,))[rank],
        "2.weight": ((2, 5), (1, 5))[rank],
        "2.bias": ((2,), (1,))[rank],
    }
    student = full()
    for name, value in weights_of(plain).items():
        torch.testing.assert_close(student[name], value)
    with torch.no_grad():
        said = module(x)
        with average.in_place(), whole.in_place():
            torch.testing.assert_close(module(x), plain(x))
            assert not torch.allclose(module(x), said, atol=1e-4)
        assert torch.equal(module(x), said)
    after = full()
    assert all(torch.equal(after[name], student[name]) for name in student)

    Path(folder).mkdir(exist_ok=True)
    average.save(folder)
    torch.distributed.barrier()
    fresh = WeightAverage(module, RATE)
    assert fresh.load(folder)
    assert same(fresh.average, average.average)


def _on_a_rank(rank, port, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    mesh = torch.distributed.init_device_mesh("cpu", (2,))
    for name, reshard in (("resharded", True), ("kept_whole", False)):
        _average_on_a_rank(rank, mesh, f"{folder}/{name}", reshard)
    torch.distributed.destroy_process_group()


def test_each_rank_averages_its_shards(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_on_a_rank, (port, str(tmp_path)), nprocs=2)
    for folder in tmp_path.iterdir():
        names = sorted(file.name for file in folder.iterdir())
        assert names == ["teacher_world_size_2_rank_0.pt", "teacher_world_size_2_rank_1.pt"]
        with pytest.raises(SettingsError, match="another number of ranks"):
            WeightAverage(model(), RATE).load(str(folder))
    assert len(list(tmp_path.iterdir())) == 2
