"""What every stage of the generator's training shares: where it runs, in which numbers, and a state to go on from."""

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def tensor(images: NDArray[np.uint8]) -> torch.Tensor:
    """(n, h, w, 3) uint8 → (n, 3, h, w) float32 in -1…1."""
    scaled = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    return scaled.to(DEVICE, memory_format=torch.channels_last)


@contextmanager
def half() -> Iterator[None]:
    """Multiplications in bfloat16 where the processor has units for them, several times as fast; else in float32."""
    with ExitStack() as stack:
        if DEVICE == "cuda" or torch.cpu.get_capabilities().get("amx_bf16"):
            stack.enter_context(torch.autocast(DEVICE, torch.bfloat16))
        if DEVICE == "cpu":  # so few tokens are attended to faster by plain products than by the fused kernel
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        yield


class Run:
    """One stage of training: optimizer with a cosine schedule, averaged weights, log, and a state to go on from."""

    def __init__(self, name: str, work: Path, modules: list[torch.nn.Module], rate: float, steps: int) -> None:
        self.name, self.steps, self._rate, self._file = name, steps, rate, work / f"{name}.pt"
        self._parameters = [parameter for module in modules for parameter in module.parameters()]
        self._averages = [parameter.detach().clone() for parameter in self._parameters]
        self._optimizer = torch.optim.AdamW(self._parameters, lr=rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
        self.done, self._mean, self._begun = 0, math.nan, time.monotonic()
        if self._file.exists():
            state = torch.load(self._file, map_location=DEVICE, weights_only=True)
            self.done = state["done"]
            self._optimizer.load_state_dict(state["optimizer"])
            for own, saved in zip(self._parameters, state["parameters"], strict=True):
                own.data.copy_(saved)
            self._averages = [saved.to(DEVICE) for saved in state["averages"]]

    def __iter__(self) -> Iterator[int]:
        for step in range(self.done, self.steps):
            yield step
            self.done = step + 1
            if self.done % 200 == 0:
                self._save()
        self._save()
        for own, average in zip(self._parameters, self._averages, strict=True):
            own.data.copy_(average)

    def learn(self, loss: torch.Tensor) -> None:
        warm = min(1.0, (self.done + 1) / 50)
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate * warm * (0.02 + 0.98 * (1 + math.cos(math.pi * self.done / self.steps)) / 2)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        keep = min(0.999, (1 + self.done) / (10 + self.done))
        torch._foreach_lerp_(self._averages, [parameter.detach() for parameter in self._parameters], 1 - keep)
        self._mean = loss.item() if math.isnan(self._mean) else 0.98 * self._mean + 0.02 * loss.item()
        if self.done % 50 == 0:
            print(f"{self.name} {self.done}/{self.steps} loss {self._mean:.4f} {time.monotonic() - self._begun:.0f} s",
                  flush=True)  # fmt: skip

    def _save(self) -> None:
        fresh = self._file.with_suffix(".new")
        torch.save(
            {
                "done": self.done,
                "optimizer": self._optimizer.state_dict(),
                "parameters": [parameter.detach() for parameter in self._parameters],
                "averages": self._averages,
            },
            fresh,
        )
        fresh.replace(self._file)
