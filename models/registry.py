"""Profile to loaded networks. Nothing is loaded that was not asked for."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import NetworkError
from models.networks import Encoder

if TYPE_CHECKING:
    from models.generator import Generator

BUILT_IN = Path(__file__).parent / "atelier" / "weights"
CLIP = "openai/clip-vit-large-patch14"
INTERNVIT = "OpenGVLab/InternViT-300M-448px"
FLUX = "black-forest-labs/FLUX.1-schnell"
DINOV2 = "facebook/dinov2-base"
CSD = "yuxi-liu-wired/CSD"  # the authors' weights as safetensors, under their own names
ENCODERS = {
    "atelier": ("atelier", "texture", "colour", "vae"),
    "open": ("clip", "dinov2"),
    "flux": ("clip", "internvit", "dinov2", "csd", "vae"),
}
# What a setting adds to any profile. SSCD comes in no other way: its authors publish files, and no hub holds them.
SETTABLE = ("clip", "internvit", "dinov2", "csd", "sscd")


@dataclass(frozen=True)
class ModelConfig:
    """Which networks run, and how. `generator` and the encoders are folders, files or hub ids; None: the profile's."""

    profile: str = "atelier"
    device: str = "auto"
    dtype: str = "auto"
    offload: bool = False
    generator: str | None = None
    clip: str | None = None
    internvit: str | None = None
    dinov2: str | None = None
    csd: str | None = None
    sscd: str | None = None


def encoder_names(config: ModelConfig) -> tuple[str, ...]:
    """Return the encoders of the profile, and those that a setting adds to it."""
    names = _of_profile(config)
    added = (name for name in SETTABLE if getattr(config, name) and name not in names)
    return (*names, *added)


def load_encoders(config: ModelConfig, only: Collection[str] | None = None) -> dict[str, Encoder]:
    """Load the encoders of `config` (or `only` some of them, by name), in the profile's order. Raises NetworkError."""
    loaders: dict[str, Callable[[], Encoder]] = {
        "atelier": lambda: _atelier(config),
        "texture": _texture,
        "colour": _colour,
        "clip": lambda: _clip(config),
        "internvit": lambda: _internvit(config),
        "dinov2": lambda: _dinov2(config),
        "csd": lambda: _csd(config),
        "sscd": lambda: _sscd(config),
        "vae": lambda: _vae(config),
    }
    return {name: loaders[name]() for name in encoder_names(config) if only is None or name in only}


def load_generator(config: ModelConfig) -> "Generator":
    """Load the generator. Raises NetworkError; `no_generator` where the profile has none and no setting names one."""
    from models.generator import Generator

    return Generator.load(generator_source(config), device=config.device, dtype=config.dtype, offload=config.offload)


def generator_source(config: ModelConfig) -> str:
    """Return the folder or hub id that `load_generator` would load."""
    _of_profile(config)
    source = config.generator or {"atelier": str(BUILT_IN / "generator"), "flux": FLUX}.get(config.profile)
    if source is None:
        raise NetworkError(
            f"The {config.profile} profile has no generator of its own.",
            code="no_generator",
            next_step="Set a generator (a folder or hub id), or choose the atelier or flux profile.",
        )
    return source


def _of_profile(config: ModelConfig) -> tuple[str, ...]:
    if config.profile not in ENCODERS:
        raise NetworkError(
            f"There is no profile {config.profile!r}.",
            code="no_profile",
            next_step=f"Choose one of {', '.join(ENCODERS)}.",
        )
    return ENCODERS[config.profile]


def _atelier(config: ModelConfig) -> Encoder:
    from models.encoders.atelier import AtelierStyle

    return AtelierStyle.load(BUILT_IN / "style_encoder", config.device)


def _texture() -> Encoder:
    from models.encoders.texture import TextureEncoder

    return TextureEncoder()


def _colour() -> Encoder:
    from models.encoders.colour import ColourEncoder

    return ColourEncoder()


def _clip(config: ModelConfig) -> Encoder:
    from models.encoders.clip import ClipEncoder

    return ClipEncoder.load(config.clip or CLIP, config.device)


def _internvit(config: ModelConfig) -> Encoder:
    from models.encoders.internvit import InternVitEncoder

    return InternVitEncoder.load(config.internvit or INTERNVIT, config.device)


def _dinov2(config: ModelConfig) -> Encoder:
    from models.encoders.dinov2 import Dinov2Encoder

    return Dinov2Encoder.load(config.dinov2 or DINOV2, config.device)


def _csd(config: ModelConfig) -> Encoder:
    from models.encoders.csd import CsdEncoder

    return CsdEncoder.load(config.csd or CSD, config.device)


def _sscd(config: ModelConfig) -> Encoder:
    from models.encoders.sscd import SscdEncoder

    assert config.sscd is not None  # no profile holds it: it is here because its setting is
    return SscdEncoder.load(config.sscd, config.device)


def _vae(config: ModelConfig) -> Encoder:
    from models.encoders.vae import VaeEncoder

    return VaeEncoder.load(generator_source(config), config.device)
