"""Where a network's files are, how they are read, and on which device and in which precision it runs."""

import json
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from huggingface_hub import model_info, snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError

from models.errors import NetworkError
from models.networks import CALL_DEFAULTS, NetworkInfo, weights_digest

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
HUB_TIMEOUT_S = 5.0
# Safetensors only: a pickled checkpoint can run code when it is read.
ENCODER_FILES = ("*.json", "*.safetensors", "README.md")
# Where a model card does not say it in its header.
LICENCES = {"openai/clip-vit-large-patch14": "MIT"}
# Without accelerate the libraries say at length that they load the ordinary way: tell them to.
LOW_MEMORY = find_spec("accelerate") is not None
# What the libraries raise for files that are damaged, incomplete or of another kind.
LOAD_ERRORS = (
    OSError, ValueError, RuntimeError, KeyError, AttributeError, TypeError, ImportError, SafetensorError,
    pickle.UnpicklingError, EOFError, zipfile.BadZipFile,
)  # fmt: skip
# What these libraries have to say while loading (progress, torchvision's absence, accelerate's) is not for our users.
for chatty in (diffusers.utils.logging, transformers.utils.logging):
    chatty.set_verbosity_error()
    chatty.disable_progress_bar()
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Checkpoint:
    """Files of one network on this machine. `revision` is the hub's commit, or "local" for a folder."""

    folder: Path
    name: str
    revision: str
    licence: str

    def info(self, part: str | None = None) -> NetworkInfo:
        """Identify the whole network, or one part of a pipeline, by a digest over its files (reads all of them)."""
        folder = self.folder / part if part else self.folder
        name = f"{self.name}/{part}" if part else self.name
        return NetworkInfo(name, self.revision, weights_digest(folder), self.licence)


def locate(source: str, files: tuple[str, ...] = ENCODER_FILES, *, complete: str = "config.json") -> Checkpoint:
    """Find a folder, or a hub id in the local cache or on the hub, and return it with all `files`.

    The cache is asked first: a network that was loaded once loads again without a network connection. Raises
    NetworkError: network_missing for a folder without `complete`, network_unavailable for a hub id out of reach.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        if not (folder / complete).is_file():
            raise NetworkError(
                f"{folder.name!r} holds no {complete}.",
                code="network_missing",
                next_step="Point the setting at a folder that save_pretrained wrote.",
            )
        return Checkpoint(
            folder, str(call_defaults(folder).get("name", folder.name)), "local", _licence(folder, source)
        )
    if not HUB_ID.fullmatch(source):
        raise NetworkError(
            f"{source!r} is neither a folder here nor a hub id of the form owner/name.",
            code="network_missing",
            next_step="Correct the setting.",
        )
    folder = _cached(source, files, complete) or _downloaded(source, files)
    return Checkpoint(folder, source, folder.name, _licence(folder, source))


def call_defaults(folder: Path) -> dict[str, Any]:
    """Return what lawful.json beside a network says, or {}. Raises NetworkError when it is no JSON object."""
    path = folder / CALL_DEFAULTS
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_bytes())
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise NetworkError(
            f"{CALL_DEFAULTS} in {folder.name!r} is no JSON object.",
            code="network_unreadable",
            next_step="Correct or remove the file.",
        )
    return values


def device_for(setting: str) -> torch.device:
    """Return the device of a setting; "auto" is the first CUDA GPU, else the CPU. Raises NetworkError."""
    if setting == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(setting)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise NetworkError(
            f"The device {setting!r} is not available here.",
            code="device_unavailable",
            next_step="Set the device to auto or cpu.",
        ) from error
    return device


def dtype_for(setting: str, device: torch.device) -> torch.dtype:
    """Return the precision of a setting; "auto" is float32 on the CPU and bfloat16 elsewhere."""
    if setting == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    return DTYPES[setting]


def load_whole(kind: Any, folder: Path) -> Any:
    """Load a transformers model in float32 from safetensors, on the CPU.

    Raises ValueError when a weight is missing or has another shape: the library would draw it at random.
    """
    model, report = kind.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, output_loading_info=True
    )
    if lacking := [*report["missing_keys"], *report["mismatched_keys"]]:
        raise ValueError(f"{len(lacking)} weights are missing or of another shape, among them {lacking[0]}")
    return model


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn what goes wrong while the files of the network `name` become that network into one NetworkError.

    Its code is network_unreadable: the files are there and do not make the network they should. The cause is chained,
    not quoted: its text may name folders. A NetworkError from inside passes as it is.
    """
    try:
        yield
    except LOAD_ERRORS as error:
        raise NetworkError(
            f"The network {name!r} cannot be loaded ({type(error).__name__}).",
            code="network_unreadable",
            next_step="Fetch its files again, or point the setting at another network.",
        ) from error


def renamed(
    weights: Mapping[str, torch.Tensor], rules: Sequence[tuple[str, str]], fused: str
) -> dict[str, torch.Tensor]:
    """Return `weights` under the names of another implementation of the same network.

    `rules` are patterns and their replacements, all applied in turn to every name. A weight whose new name holds
    `fused` has the rows of q, k and v under each other, and is split: `fused` gives way to ".q_proj." and so on.
    Raises ValueError where such a weight has fewer than three rows.
    """
    found: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        native = name
        for pattern, replacement in rules:
            native = re.sub(pattern, replacement, native)
        if fused in native:
            for part, rows in zip("qkv", tensor.chunk(3), strict=True):
                found[native.replace(fused, f".{part}_proj.")] = rows.contiguous()
        else:
            found[native] = tensor
    return found


def _cached(source: str, files: tuple[str, ...], complete: str) -> Path | None:
    try:
        folder = Path(snapshot_download(source, allow_patterns=list(files), local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return folder if (folder / complete).is_file() and any(folder.rglob("*.safetensors")) else None


def _downloaded(source: str, files: tuple[str, ...]) -> Path:
    # One short question first: the download itself would retry for minutes where there is no way out.
    try:
        revision = model_info(source, timeout=HUB_TIMEOUT_S).sha
        return Path(snapshot_download(source, revision=revision, allow_patterns=list(files)))
    except Exception as error:  # the hub's client, its HTTP library and the disk each have their own
        raise _unavailable(source) from error


def _unavailable(source: str) -> NetworkError:
    return NetworkError(
        f"The network {source!r} is not on this machine, and the model hub did not hand it out.",
        code="network_unavailable",
        next_step=(
            "Connect to the hub once (with an access token if the network asks for one), or copy its files here and "
            "point the setting at their folder. The atelier profile needs no hub."
        ),
    )


def _licence(folder: Path, source: str) -> str:
    if licence := call_defaults(folder).get("licence"):
        return str(licence)
    card = folder / "README.md"
    if card.is_file():
        found = re.search(r"\A---\n(?:.*\n)*?license:\s*(\S+)", card.read_text("utf-8", "replace")[:20_000])
        if found:
            return found[1]
    return LICENCES.get(source, "unknown")
