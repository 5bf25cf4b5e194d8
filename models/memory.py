"""How much of each GPU's memory is taken. Asked by a running process about itself; loads nothing that is not loaded."""

import sys
from typing import NamedTuple


class GpuMemory(NamedTuple):
    """Bytes of one device. `ours`: held by this process's tensors; `free` counts what any process leaves."""

    device: str
    ours: int
    free: int
    total: int


def gpu_memory() -> list[GpuMemory]:
    """One for each CUDA device, none where this process has put nothing on any: asking would take memory itself."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return []
    found = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        found.append(GpuMemory(f"cuda:{index}", torch.cuda.memory_allocated(index), free, total))
    return found
