"""Record every image of your own diffusers pipeline with a ledger. Copy this file; it needs `lawful-ledger` alone.

    with Ledger("https://ledger.example", api_key="lawful_…") as ledger:
        recorder = Recorder(ledger, "out", model="black-forest-labs/FLUX.1-schnell")
        for made in recorder(pipeline, "a boat on a lake", num_inference_steps=4):
            print(made.path, made.record["id"])

The pipeline runs in your process, on your GPU. The ledger gets the picture, the model's name and the numbers of the
call; of the prompt a salted commitment. It says that you declared this: it cannot see how a picture was made.
"""

import inspect
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger.client import Ledger

SEED_BITS = 32


@dataclass(frozen=True)
class Recording:
    """`path`: the issued PNG, with its credential. Beside it, as JSON, what only you know: prompt, salt, numbers."""

    path: Path
    record: dict[str, Any]
    parameters: dict[str, Any]


class Recorder:
    """Calls a text-to-image pipeline and has each of its images recorded; files go to `folder`."""

    def __init__(self, ledger: Ledger, folder: str | Path, *, model: str) -> None:
        self.ledger = ledger
        self.folder = Path(folder)
        self.model = model

    def __call__(self, pipeline: Any, prompt: str, *, seed: int | None = None, **call: Any) -> list[Recording]:
        """`call` goes to the pipeline as it is. Raises LedgerError when an image cannot be recorded.

        The noise is drawn on the CPU from `seed`, or one that is made up, so that the recorded number leads back to the
        picture wherever the pipeline runs. Images of one call share the seed and are numbered.
        """
        import torch

        seed = secrets.randbits(SEED_BITS) if seed is None else seed
        watched = _Watch(call.pop("callback_on_step_end", None))
        if "callback_on_step_end" in inspect.signature(pipeline.__call__).parameters:
            call["callback_on_step_end"] = watched
        call["generator"] = torch.Generator("cpu").manual_seed(seed)
        images = pipeline(prompt=prompt, **call).images
        return [
            self._recorded(image, prompt, {"seed": seed, "image": number, **watched.seen})
            for number, image in enumerate(images)
        ]

    def _recorded(self, image: Any, prompt: str, parameters: dict[str, Any]) -> Recording:
        parameters |= {"width": image.width, "height": image.height}
        declared = ", ".join(f"{name} {value}" for name, value in parameters.items())
        stamped = self.ledger.stamp(image, model=f"{self.model} ({declared})", prompt=prompt)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = stamped.save(self.folder / f"{stamped.record['id']}.png")
        kept = {"model": self.model, "prompt": prompt, "prompt_salt": stamped.prompt_salt, **parameters}
        path.with_suffix(".json").write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
        return Recording(path, stamped.record, parameters)


class _Watch:
    """`callback_on_step_end`: what the pipeline really did, whichever of its defaults it took. Calls yours, too."""

    def __init__(self, then: Callable[..., dict[str, Any]] | None) -> None:
        self.seen: dict[str, Any] = {}
        self._then = then

    def __call__(self, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        self.seen["steps"] = step + 1
        guidance = getattr(pipeline, "guidance_scale", None)
        if isinstance(guidance, int | float):
            self.seen["guidance"] = guidance
        return tensors if self._then is None else self._then(pipeline, step, timestep, tensors)
