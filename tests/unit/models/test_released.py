from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.errors import NetworkError
from models.released import locate_file, read_tensors

WEIGHTS = {"layer.weight": torch.arange(6.0).reshape(2, 3)}


def test_a_file_stands_for_itself_and_a_folder_for_the_one_file_it_holds(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "weights.pt")
    for source in (tmp_path, tmp_path / "weights.pt"):
        found = locate_file(str(source))
        assert found.folder == tmp_path / "weights.pt"
        assert torch.equal(read_tensors(found)["layer.weight"], WEIGHTS["layer.weight"])
    assert (
        locate_file(str(tmp_path)).info().weights_sha256
        == locate_file(str(tmp_path / "weights.pt")).info().weights_sha256
    )


def test_safetensors_go_before_a_pickled_copy(tmp_path: Path) -> None:
    torch.save({"layer.weight": torch.zeros(1)}, tmp_path / "weights.pt")
    save_file(WEIGHTS, tmp_path / "weights.safetensors")
    assert locate_file(str(tmp_path)).folder.name == "weights.safetensors"


@pytest.mark.parametrize("held", [(), ("a.pt", "b.pt"), ("a.safetensors", "b.safetensors")])
def test_a_folder_with_no_file_or_several_is_refused(tmp_path: Path, held: tuple[str, ...]) -> None:
    for name in held:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(NetworkError) as caught:
        locate_file(str(tmp_path))
    assert caught.value.code == "network_missing"
    assert str(tmp_path.parent) not in caught.value.detail


def test_what_is_neither_here_nor_a_hub_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NetworkError) as caught:
        locate_file(str(tmp_path / "absent.pt"))
    assert caught.value.code == "network_missing"


def test_licence_and_name_are_read_from_beside_the_file(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "weights.pt")
    assert locate_file(str(tmp_path)).licence == "unknown"
    (tmp_path / "lawful.json").write_text('{"name": "sscd_disc_mixup", "licence": "MIT"}')
    found = locate_file(str(tmp_path / "weights.pt"))
    assert (found.name, found.licence) == ("sscd_disc_mixup", "MIT")


def test_a_torchscript_program_is_not_run_but_named(tmp_path: Path) -> None:
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(tmp_path / "net.torchscript.pt"))
    with pytest.raises(NetworkError) as caught:
        read_tensors(locate_file(str(tmp_path)))
    assert caught.value.code == "network_unreadable"
    assert "TorchScript" in caught.value.detail
    assert "torchvision.pt" in caught.value.next_step


def test_half_precision_is_widened_and_counters_stay_whole(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2, dtype=torch.float16), "n": torch.tensor(7)}, tmp_path / "model.safetensors")
    tensors = read_tensors(locate_file(str(tmp_path)))
    assert (tensors["a"].dtype, tensors["n"].dtype) == (torch.float32, torch.int64)
