"""Checkpoints as their authors released them: one file of named tensors, without a configuration beside it.

Safetensors are preferred, and the only form taken from a hub. A pickled file (.pt, .pth, .bin) is read from this
machine only, with a reader that makes tensors and runs nothing; TorchScript, which is a program, is refused.
"""

import pickle
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file

from models.errors import NetworkError
from models.loading import Checkpoint, call_defaults, locate, reading

PREFERRED = "model.safetensors"
PICKLED = (".pt", ".pth", ".bin")
WRAPPERS = ("state_dict", "model_state_dict", "model")  # what training programs put their weights under
PREFIXES = ("module.", "model.")  # what wrappers of a network put before its names


def locate_file(source: str) -> Checkpoint:
    """Find the one file of weights that `source` means: a file, a folder that holds one, or a hub id.

    The checkpoint's `folder` is then that file. Raises NetworkError as `models.loading.locate` does, and
    network_missing for a folder without such a file, or with several and none of them called model.safetensors.
    """
    path = Path(source).expanduser()
    if path.is_file():
        defaults = call_defaults(path.parent)
        return Checkpoint(path, str(defaults.get("name", path.name)), "local", str(defaults.get("licence", "unknown")))
    if path.is_dir():
        file = _only_file(path)
        defaults = call_defaults(path)
        return Checkpoint(file, str(defaults.get("name", path.name)), "local", str(defaults.get("licence", "unknown")))
    found = locate(source, complete=PREFERRED)
    return Checkpoint(_only_file(found.folder), found.name, found.revision, found.licence)


def read_tensors(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """Return the tensors of `locate_file`'s file by name, on the CPU; float32 where they are of a floating type.

    Prefixes and outer dictionaries that training programs add are taken off. Raises NetworkError network_unreadable.
    """
    file = checkpoint.folder
    with reading(checkpoint.name):
        held = load_file(file) if file.suffix == ".safetensors" else _unpickled(file)
    for wrapper in WRAPPERS:
        inner = held.get(wrapper)
        if isinstance(inner, dict):
            held = inner
    tensors = {_bare(str(name)): value for name, value in held.items() if isinstance(value, torch.Tensor)}
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}


def _only_file(folder: Path) -> Path:
    if (folder / PREFERRED).is_file():
        return folder / PREFERRED
    safe = sorted(folder.glob("*.safetensors"))
    files = safe or sorted(path for path in folder.iterdir() if path.suffix in PICKLED)
    if len(files) != 1:
        raise NetworkError(
            f"{folder.name!r} holds {'no' if not files else 'several'} files of weights.",
            code="network_missing",
            next_step=f"Point the setting at the file itself, or call it {PREFERRED}.",
        )
    return files[0]


def _unpickled(file: Path) -> dict[str, object]:
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise NetworkError(
                    f"{file.name!r} is a TorchScript program, and no code of a checkpoint is run here.",
                    code="network_unreadable",
                    next_step="Fetch the weights themselves, as .torchvision.pt or safetensors.",
                )
    held = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(held, dict):
        raise pickle.UnpicklingError("no dictionary of tensors")
    return held


def _bare(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name
