"""Prompt to image, over any diffusers text-to-image pipeline; FLUX.1-schnell is the reference."""

import inspect
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from diffusers import DiffusionPipeline
from numpy.typing import NDArray

from models.errors import NetworkError, PromptError
from models.learned_from import LEARNED_FROM, read_learned_from
from models.loading import LOW_MEMORY, call_defaults, device_for, dtype_for, locate, reading
from models.networks import NetworkInfo

INDEX = "model_index.json"
# A pipeline's parts lie one folder deep; single-file copies of the weights beside them are not fetched.
PIPELINE_FILES = (
    INDEX,
    "lawful.json",
    LEARNED_FROM,
    "README.md",
    "*/*.json",
    "*/*.safetensors",
    "*/*.txt",
    "*/*.model",
)
MAX_SIDE = 2048
MAX_STEPS = 200
MAX_GUIDANCE = 30.0
MAX_SEED = 2**53 - 1  # what JSON readers in every language can hold
DEFAULT_SIDE = 1024
DEFAULT_STEPS = 28
WORD = re.compile("\\w+(?:['\u2019]\\w+)*")  # an apostrophe, straight or curved, may stand within


@dataclass(frozen=True)
class CallDefaults:
    """How the pipeline is called when the request does not say. `true_cfg_scale` above 1: two passes a step."""

    height: int
    width: int
    num_inference_steps: int
    guidance_scale: float | None
    true_cfg_scale: float | None
    negative_prompt: str | None
    max_sequence_length: int | None = None  # tokens of the prompt, where the pipeline pads to a length
    vocabulary: frozenset[str] | None = None  # the words that it learned, in lower case; None: not known


@dataclass(frozen=True)
class GeneratedImage:
    """Pixels (height, width, 3) uint8 and every number that the call was made with.

    `unknown_words` of the prompt are those that the generator never learned, as typed, each once. Without a vocabulary
    there are none, which then says nothing.
    """

    pixels: NDArray[np.uint8]
    seed: int
    steps: int
    guidance: float | None
    width: int
    height: int
    unknown_words: tuple[str, ...] = ()


class Generator:
    """A loaded pipeline. Not for several threads at once. `learned_from`: as in `models.learned_from`.

    The same prompt, seed and numbers give the same pixels on the same machine and library versions, not on others.
    """

    def __init__(
        self, pipeline: Any, info: NetworkInfo, defaults: CallDefaults, learned_from: tuple[str, ...] | None = None
    ) -> None:
        self.info = info
        self.defaults = defaults
        self.learned_from = learned_from
        self._pipeline = pipeline
        self._accepts = frozenset(inspect.signature(pipeline.__call__).parameters)

    @classmethod
    def load(cls, source: str | Path, *, device: str = "auto", dtype: str = "auto", offload: bool = False) -> Self:
        """Load a folder or hub id; `offload` keeps parts in main memory until they run (GPU only, needs accelerate).

        No code of the checkpoint is run. Raises NetworkError.
        """
        checkpoint = locate(str(source), PIPELINE_FILES, complete=INDEX)
        place = device_for(device)
        with reading(checkpoint.name):
            pipeline = DiffusionPipeline.from_pretrained(
                checkpoint.folder,
                dtype=dtype_for(dtype, place),
                use_safetensors=True,
                local_files_only=True,
                low_cpu_mem_usage=LOW_MEMORY,
            )
        if "prompt" not in inspect.signature(pipeline.__call__).parameters or getattr(pipeline, "vae", None) is None:
            raise NetworkError(
                f"{type(pipeline).__name__} makes no image from a prompt.",
                code="network_unreadable",
                next_step="Point the setting at a text-to-image pipeline.",
            )
        pipeline.set_progress_bar_config(disable=True)
        _place(pipeline, place, offload)
        defaults, learned_from = _defaults(pipeline, checkpoint.folder), read_learned_from(checkpoint.folder)
        return cls(pipeline, checkpoint.info(), defaults, learned_from)

    @property
    def pipeline(self) -> Any:
        """The diffusers pipeline itself, for whoever trains it further."""
        return self._pipeline

    @property
    def multiple(self) -> int:
        """Width and height must be multiples of this many pixels."""
        pipeline = self._pipeline
        processor = getattr(pipeline, "image_processor", None)
        packed = int(processor.config.vae_scale_factor) if processor is not None else 8
        patch = getattr(getattr(getattr(pipeline, "transformer", None), "config", None), "patch_size", 1)
        patched = int(getattr(pipeline, "vae_scale_factor", 8)) * (patch if isinstance(patch, int) else 1)
        return math.lcm(packed, patched)

    def generate(
        self,
        prompt: str,
        *,
        seed: int,
        steps: int | None = None,
        guidance: float | None = None,
        width: int | None = None,
        height: int | None = None,
    ) -> GeneratedImage:
        """Make one image: `generate_several` with one prompt."""
        return self.generate_several(
            [prompt], seeds=[seed], steps=steps, guidance=guidance, width=width, height=height
        )[0]

    def generate_several(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        steps: int | None = None,
        guidance: float | None = None,
        width: int | None = None,
        height: int | None = None,
    ) -> list[GeneratedImage]:
        """Make an image of each prompt by the seed beside it, in one call. What is None comes from `defaults`.

        A small network makes several in little more time than one. Each has the noise that it would have alone, so its
        pixels differ from those made alone by rounding at most.

        `guidance` is the scale of true classifier-free guidance where the pipeline is called with it, else of its own.
        Raises PromptError (prompt_refused, size_refused, steps_refused, guidance_refused, seed_refused), and
        NetworkError `generation_failed` when the network returns numbers that are no image.
        """
        for prompt in prompts:
            _check_prompt(prompt)
        defaults = self.defaults
        steps = defaults.num_inference_steps if steps is None else steps
        width, height = width or defaults.width, height or defaults.height
        true_guidance = defaults.true_cfg_scale is not None and defaults.true_cfg_scale > 1
        if guidance is None:
            guidance = defaults.true_cfg_scale if true_guidance else defaults.guidance_scale
        for seed in seeds:
            self._check_numbers(seed, steps, guidance, width, height)
        negative = defaults.negative_prompt
        call = {
            "prompt": list(prompts),  # by name: some pipelines take an image first
            "negative_prompt": None if negative is None else [negative] * len(prompts),
            "true_cfg_scale": guidance if true_guidance else None,
            "guidance_scale": defaults.guidance_scale if true_guidance else guidance,
            "num_inference_steps": steps,
            "width": width,
            "height": height,
            # Drawn on the CPU: the same noise whatever the device.
            "generator": [torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            "output_type": "np",
            "max_sequence_length": defaults.max_sequence_length,
        }
        given = {name: value for name, value in call.items() if value is not None and name in self._accepts}
        images = [_as_bytes(np.asarray(image), width, height) for image in self._pipeline(**given).images]
        return [
            GeneratedImage(image, seed, steps, guidance, width, height, self.unknown_words(prompt))
            for image, seed, prompt in zip(images, seeds, prompts, strict=True)
        ]

    def unknown_words(self, prompt: str) -> tuple[str, ...]:
        """The words of a prompt that the generator never learned, as typed, each once, in order.

        Case and punctuation do not matter. None where it has no vocabulary. That a word was learned does not say that
        its combination with others was.
        """
        vocabulary = self.defaults.vocabulary
        if vocabulary is None:
            return ()
        unknown: dict[str, str] = {}
        for word in _words(prompt):
            if word.casefold() not in vocabulary:
                unknown.setdefault(word.casefold(), word)
        return tuple(unknown.values())

    def _check_numbers(self, seed: int, steps: int, guidance: float | None, width: int, height: int) -> None:
        multiple = self.multiple
        for side, value in (("width", width), ("height", height)):
            if not multiple <= value <= MAX_SIDE or value % multiple:
                raise PromptError(
                    f"The {side} of {value} is not a multiple of {multiple} from {multiple} to {MAX_SIDE}.",
                    code="size_refused",
                    next_step=f"Ask for {min(MAX_SIDE, max(multiple, round(value / multiple) * multiple))} instead.",
                )
        if not 1 <= steps <= MAX_STEPS:
            raise PromptError(
                f"The number of steps is {steps}; 1 to {MAX_STEPS} are possible.",
                code="steps_refused",
                next_step=f"Leave it out for {self.defaults.num_inference_steps}.",
            )
        if guidance is not None and not 0 <= guidance <= MAX_GUIDANCE:
            raise PromptError(
                f"The guidance is {guidance}; 0 to {MAX_GUIDANCE:g} are possible.",
                code="guidance_refused",
                next_step="Leave it out for the generator's own.",
            )
        if not 0 <= seed <= MAX_SEED:
            raise PromptError(
                f"The seed is {seed}; 0 to {MAX_SEED} are possible.",
                code="seed_refused",
                next_step="Choose a smaller one.",
            )


def _place(pipeline: Any, device: torch.device, offload: bool) -> None:
    if not offload or device.type == "cpu":
        pipeline.to(device)
        return
    try:
        pipeline.enable_model_cpu_offload(device=device)
    except ImportError as error:
        raise NetworkError(
            "Offloading needs the package accelerate.", next_step="Install the gpu extra, or turn offload off."
        ) from error


def _check_prompt(prompt: str) -> None:
    if not prompt.strip():
        raise PromptError("The prompt is empty.", next_step="Say what the image should show.")
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise PromptError("The prompt is no valid text (lone surrogates).", next_step="Send it as UTF-8.") from error


def _words(text: str) -> list[str]:
    return WORD.findall(unicodedata.normalize("NFC", text))


def _vocabulary(said: Any) -> frozenset[str] | None:
    """The words of a list of words; None for anything else."""
    if not isinstance(said, list) or not all(isinstance(each, str) for each in said):
        return None
    return frozenset(word.casefold() for each in said for word in _words(each))


def _as_bytes(image: NDArray[np.floating[Any]], width: int, height: int) -> NDArray[np.uint8]:
    if image.shape != (height, width, 3) or not np.isfinite(image).all():
        raise NetworkError(
            "The generator returned numbers that are no image.",
            code="generation_failed",
            next_step="Set the precision (dtype) to float32 or bfloat16; if that does not help, fetch it again.",
        )
    return np.asarray(np.rint(np.clip(image, 0, 1) * 255), np.uint8)


def _defaults(pipeline: Any, folder: Path) -> CallDefaults:
    """lawful.json beside the pipeline, then what is known of its kind, then the defaults of its own __call__."""
    own = {
        name: parameter.default
        for name, parameter in inspect.signature(pipeline.__call__).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    known: dict[str, Any] = {}
    if type(pipeline).__name__ == "FluxPipeline" and not pipeline.transformer.config.guidance_embeds:
        known = {"num_inference_steps": 4, "guidance_scale": 0.0}  # schnell: distilled to four steps without guidance
    side = getattr(pipeline, "default_sample_size", None)
    if side is not None:
        known |= {"width": side * pipeline.vae_scale_factor, "height": side * pipeline.vae_scale_factor}
    said = call_defaults(folder)
    names = ("height", "width", "num_inference_steps", "guidance_scale", "true_cfg_scale", "negative_prompt",
             "max_sequence_length")  # fmt: skip
    values = {name: said.get(name, known.get(name, own.get(name))) for name in names}
    true_cfg = values["true_cfg_scale"]
    if true_cfg is not None and true_cfg > 1 and values["negative_prompt"] is None:
        values["negative_prompt"] = " "  # without one, pipelines leave true guidance out
    return CallDefaults(
        height=int(values["height"] or DEFAULT_SIDE),
        width=int(values["width"] or DEFAULT_SIDE),
        num_inference_steps=int(values["num_inference_steps"] or DEFAULT_STEPS),
        guidance_scale=None if values["guidance_scale"] is None else float(values["guidance_scale"]),
        true_cfg_scale=None if true_cfg is None else float(true_cfg),
        negative_prompt=values["negative_prompt"],
        max_sequence_length=values["max_sequence_length"],
        vocabulary=_vocabulary(said.get("vocabulary")),
    )
