"""A GPU in name alone: ``with Card():`` tensors can be on the device ``card``, whose values are in this machine's memory.

An operation that gets a tensor of the card and one of the CPU is refused, as on a real GPU; copies are not, nor numbers of the
CPU. So code that forgets a tensor on the other device fails without a GPU. There is no backward pass. The first ``Card()``
registers the device for the whole process, so make it in a process of its own.
"""

import functools
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

COPIES = (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)


@functools.cache
def _register() -> None:
    """Not when this is imported: pytest imports every module that may have doctests."""
    _setup_privateuseone_for_python_backend("card")


class OnCard(torch.Tensor):
    """A tensor of the card; ``held`` has its values."""

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "OnCard":
        return torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device="card",
        )

    def __init__(self, held: torch.Tensor) -> None:
        self.held = held

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})

    def tolist(self) -> Any:  # PyTorch has none for a subclass
        return self.held.tolist()


def computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The operation on the values, its result on the device on which a GPU would have it."""
    given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
    ours = {id(value.held): value for value in given if isinstance(value, OnCard)}
    if ours and func not in COPIES and any(value.dim() and not isinstance(value, OnCard) for value in given):
        raise RuntimeError(f"{func}: tensors of two devices")
    on_card = isinstance(args[0], OnCard) if func is COPIES[0] else bool(ours)
    if (device := kwargs.get("device")) is not None:
        on_card = torch.device(device).type == "card"
        kwargs = kwargs | {"device": "cpu"}
    held_args, held_kwargs = tree_map(lambda value: value.held if isinstance(value, OnCard) else value, (args, kwargs))
    result = func(*held_args, **held_kwargs)
    if not on_card:
        return result

    def ours_again(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return (
            ours[id(value)] if id(value) in ours else OnCard(value)
        )  # an operation in place returns what it was given

    return tree_map(ours_again, result)


class _NewTensors(TorchFunctionMode):
    """``torch.tensor(…, device="card")`` makes its values on the CPU, below all that can be seen from Python."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.tensor and torch.device(kwargs.get("device") or "cpu").type == "card":
            return func(*args, **kwargs | {"device": "cpu"}).to("card")
        return func(*args, **kwargs)


class Card(TorchDispatchMode):
    """Inside the context the device ``card`` is there."""

    def __init__(self) -> None:
        _register()
        super().__init__()

    def __enter__(self) -> "Card":
        self.new_tensors = _NewTensors()
        self.new_tensors.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.new_tensors.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})
