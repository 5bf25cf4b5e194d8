"""How the atelier's encoders are trained: AdamW under a rate that rises and falls once (Smith & Topin 2019)."""

import time

import torch
from torch import nn


class OneCycle:
    """`steps` steps of one network; every 25th is told with its loss."""

    def __init__(self, name: str, network: nn.Module, *, rate: float, decay: float, steps: int) -> None:
        self._name, self._steps, self._done, self._begun = name, steps, 0, time.monotonic()
        self._optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(self._optimizer, rate, total_steps=steps)

    def learn(self, loss: torch.Tensor) -> None:
        """One step down the gradient of a scalar."""
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._schedule.step()
        if self._done % 25 == 0:
            took = time.monotonic() - self._begun
            print(f"{self._name} {self._done}/{self._steps} loss {loss.item():.3f} {took:.0f} s", flush=True)
        self._done += 1
