from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.encoders.sscd import SscdEncoder, SscdNetwork, prepared
from models.errors import NetworkError


def pictures(count: int, height: int = 60, width: int = 90) -> list[np.ndarray]:
    return list(np.random.default_rng(5).integers(0, 256, (count, height, width, 3), np.uint8))


@pytest.fixture(scope="module")
def network() -> SscdNetwork:
    torch.manual_seed(1)
    network = SscdNetwork(4, (2, 1, 1, 1), 16)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics as after training, not the identity
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return network.eval()


def released(network: SscdNetwork) -> dict[str, torch.Tensor]:
    return {f"backbone.{name}": value for name, value in network.state_dict().items()}


def test_names_and_shapes_are_those_of_the_released_resnet_50() -> None:
    shapes = {name: tuple(value.shape) for name, value in SscdNetwork().state_dict().items()}
    assert len([name for name in shapes if not name.endswith("num_batches_tracked")]) == 267
    assert shapes["conv1.weight"] == (64, 3, 7, 7)
    assert shapes["layer1.0.downsample.0.weight"] == (256, 64, 1, 1)
    assert shapes["layer3.5.conv2.weight"] == (256, 256, 3, 3)
    assert shapes["layer4.2.bn3.running_var"] == (2048,)
    assert shapes["fc.weight"] == (512, 2048)


@pytest.mark.parametrize("form", ["torchvision.pt", "safetensors"])
def test_the_released_file_gives_the_rows_of_the_network_it_was_saved_from(
    network: SscdNetwork, tmp_path: Path, form: str
) -> None:
    file = tmp_path / f"sscd.{form}"
    if form == "safetensors":
        save_file(released(network), file)
    else:
        torch.save(released(network), file)
    encoder = SscdEncoder.load(file, "cpu")
    with torch.inference_mode():
        direct = torch.nn.functional.normalize(network(prepared(pictures(3))), dim=-1).numpy()
    rows = encoder.encode(pictures(3))
    assert rows.shape == (3, encoder.dim) == (3, 16)
    assert (rows == direct).all()
    assert (encoder.name, encoder.axes) == ("sscd", {"copy"})


def test_rows_have_length_one_and_do_not_depend_on_the_batch(network: SscdNetwork, tmp_path: Path) -> None:
    torch.save(released(network), tmp_path / "sscd.pt")
    encoder = SscdEncoder.load(tmp_path, "cpu")
    images = [*pictures(2), *pictures(1, 8, 8), np.zeros((30, 30, 3), np.uint8)]
    rows = encoder.encode(images)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert np.allclose(rows, np.concatenate([encoder.encode([image]) for image in images]), atol=1e-5)
    assert encoder.encode([]).shape == (0, 16)


def test_the_pooled_map_is_the_cubic_mean(network: SscdNetwork) -> None:
    """A map that is alike everywhere is its own mean; one with a peak is above its plain mean."""
    seen: list[torch.Tensor] = []
    hooks = [
        network.layer4.register_forward_hook(lambda _m, _i, out: seen.append(out)),
        network.fc.register_forward_hook(lambda _m, given, _o: seen.append(given[0])),
    ]
    with torch.inference_mode():
        network(prepared(pictures(1)))
    for hook in hooks:
        hook.remove()
    maps, pooled = seen
    assert torch.allclose(pooled, maps.clamp(min=1e-6).pow(3).mean((2, 3)) ** (1 / 3), atol=1e-6)
    assert (pooled >= maps.mean((2, 3)) - 1e-5).all()


@pytest.mark.parametrize("spoil", ["missing weight", "classy names", "not a dictionary", "cut short", "code"])
def test_a_file_of_another_kind_is_refused(network: SscdNetwork, tmp_path: Path, spoil: str) -> None:
    file = tmp_path / "sscd.pt"
    weights = released(network)
    if spoil == "missing weight":
        weights.pop("backbone.layer2.0.bn1.running_mean")
    elif spoil == "classy names":
        weights = {name.replace("layer", "blocks."): value for name, value in weights.items()}
    torch.save(list(weights) if spoil == "not a dictionary" else weights, file)
    if spoil == "cut short":
        file.write_bytes(file.read_bytes()[:1000])
    elif spoil == "code":
        torch.save(network, file)  # the whole module: reading it would run code
    with pytest.raises(NetworkError) as caught:
        SscdEncoder.load(file, "cpu")
    assert caught.value.code == "network_unreadable"
