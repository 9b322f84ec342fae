"""How many bytes of tensors are alive: while real code runs, or while the same code runs on tensors without content.

On the meta device a tensor has a shape and no memory. A forward and backward pass there costs seconds for a model of
any size, and autograd keeps what it would keep on a GPU: nothing about a layer has to be known beforehand.
"""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Meter(TorchDispatchMode):
    """Within it, `live` is the bytes of tensors that were made since and still exist, `peak` the most there were.

    What a kernel needs inside itself is not seen.
    """

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self._sizes: dict[int, int] = {}  # by storage; 0 for one that was there before

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self._see((args, kwargs), counted=False)
        result = func(*args, **(kwargs or {}))
        self._see(result, counted=True)
        return result

    def _see(self, values, *, counted: bool) -> None:
        for value in tree_leaves(values):
            if not isinstance(value, torch.Tensor):
                continue
            storage = value.untyped_storage()
            key = storage._cdata
            if key in self._sizes:
                continue
            self._sizes[key] = storage.nbytes() if counted else 0
            weakref.finalize(storage, self._sizes_drop, key)
            self.live += self._sizes[key]
            self.peak = max(self.peak, self.live)

    def _sizes_drop(self, key: int) -> None:
        self.live -= self._sizes.pop(key)
