"""PyTorch's archives are told apart by their members, without PyTorch, and shapes are read as they are written."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgekit.converter import parse_input_shape
from edgekit.converters._torch_scan import kind_of, refuse
from edgekit.errors import InputError


def archive(path: Path, members: Sequence[str], content: bytes = b"") -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for member in members:
            file.writestr(member, content)
    return path


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        (("net/archive_format", "net/models/model.json", "net/data/weights/weight_0", "net/data.pkl"), "program"),
        (("serialized_exported_program.json", "serialized_state_dict.json", "version"), "program"),
        (("net/archive_format", "net/data/aotinductor/model/net.so"), "compiled"),
        (("net/data.pkl", "net/constants.pkl", "net/code/__torch__.py", "net/version"), "script"),
        (("net/data.pkl", "net/data/0", "net/version"), "checkpoint"),
        (("net/data.pkl", "net/constants.pkl"), "checkpoint"),
        (("config.json", "model.weights.h5"), None),
        (("weight.npy",), None),
        (("data.pkl",), None),
        ((), None),
    ],
)
def test_an_archive_is_what_its_members_say(members: Sequence[str], kind: str | None, tmp_path: Path) -> None:
    assert kind_of(archive(tmp_path / "model", members)) == kind


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"text", b"\x80\x02}q\x00."])
def test_other_content_is_no_archive(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(content)
    assert kind_of(tmp_path / "model") is None
    assert kind_of(tmp_path) is None
    assert kind_of(tmp_path / "missing") is None


class Loud:
    """Says so when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("it was unpickled",)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_is_named_and_never_loaded(protocol: int, tmp_path: Path) -> None:
    path = archive(tmp_path / "model", ["net/data.pkl"], pickle.dumps({"weights": Loud()}, protocol))
    assert "_pytest.outcomes" in " ".join(refuse(path, "checkpoint").offenders)


def test_weights_name_nothing_foreign(tmp_path: Path) -> None:
    path = archive(tmp_path / "model", ["net/data.pkl"], pickle.dumps(OrderedDict(w=1), 2))
    assert refuse(path, "checkpoint").offenders == ()
    assert "--weights model" in refuse(path, "checkpoint").hint


@pytest.mark.parametrize(
    ("text", "name", "dtype", "shape"),
    [
        ("1,3,224,224", "", "float32", (1, 3, 224, 224)),
        ("ids=batch,128:int64", "ids", "int64", ("batch", 128)),
        (" left = n , 4 ", "left", "float32", ("n", 4)),
        ("7:uint8", "", "uint8", (7,)),
    ],
)
def test_a_shape_is_read_as_written(text: str, name: str, dtype: str, shape: tuple[int | str, ...]) -> None:
    spec = parse_input_shape(text)
    assert (spec.name, spec.dtype, spec.shape) == (name, dtype, shape)


@pytest.mark.parametrize(
    "text", ["", "x=", "0,3", "1,,3", "1,-1", "1x3", "a=b=1", "1,3:", "1,3:float31", "1.5", "1,x y"]
)
def test_what_is_no_shape_is_an_input_error(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_input_shape(text)
    assert caught.value.hint
