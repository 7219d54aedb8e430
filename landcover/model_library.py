"""segmentation-models-pytorch without torch's compiler, which takes longer to import than torch itself."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo"


@cache
def model_library() -> Any:
    """The module segmentation_models_pytorch.

    torchvision and timm, which it imports, ask for the compiler to mark functions that it must not
    touch. Nothing is compiled here, so they meet a stand-in that marks nothing; whoever imports the
    compiler later, as optimizers do, gets the real one.
    """
    import torch  # noqa: F401 - so that torch itself never meets the stand-in

    if _COMPILER in sys.modules:
        import segmentation_models_pytorch as smp
    else:
        with _stand_in():
            import segmentation_models_pytorch as smp
    return smp


@contextmanager
def without_meta_values() -> Iterator[None]:
    """Let networks be built whose drafts, without memory (device meta), are given no first values.

    The library drafts each encoder of timm so; to draw values for a draft, torch imports its
    compiler and sympy, and there is nothing to hold them.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class Mode(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            given = kwargs or {}
            if getattr(func, "__module__", None) == torch.nn.init.__name__:
                tensor = given["tensor"] if "tensor" in given else args[0]
                if tensor.is_meta:
                    return tensor
            return func(*args, **given)

    with Mode():
        yield


@contextmanager
def _stand_in() -> Iterator[None]:
    compiler, helpers = ModuleType(_COMPILER), ModuleType(f"{_COMPILER}.utils")
    vars(compiler).update(disable=_unmarked, utils=helpers)
    vars(helpers).update(is_compile_supported=lambda _device: False)
    modules = {compiler.__name__: compiler, helpers.__name__: helpers}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            sys.modules.pop(name, None)


def _unmarked(function: Any = None, *_: Any, **__: Any) -> Any:
    """A decorator, with or without arguments, that leaves a function as it is."""
    return _unmarked if function is None else function
