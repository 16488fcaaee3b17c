"""Frozen dataclasses that cost next to nothing to define.

`dataclasses` writes and compiles six functions for every class, which for those on a device's way to its first answer
takes a tenth of the way. Subclasses of `Record` share theirs. For whoever looks, they are frozen dataclasses: ``==``,
``hash``, ``repr``, ``match``, `dataclasses.replace`, `asdict` and `fields` do with them what they do with those.
"""

from __future__ import annotations

from _thread import RLock
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, dataclass_transform

__all__ = ["Record", "field"]


class _Field:
    """What `field` was told."""

    __slots__ = ("compare", "default_factory", "init", "repr")

    def __init__(self, default_factory: Callable[[], Any] | None, init: bool, repr: bool, compare: bool) -> None:
        self.default_factory, self.init, self.repr, self.compare = default_factory, init, repr, compare


def field(
    *, default_factory: Callable[[], Any] | None = None, init: bool = True, repr: bool = True, compare: bool = True
) -> Any:
    """What `dataclasses.field` is to a dataclass; a field without `init` is for `__post_init__` to set."""
    return _Field(default_factory, init, repr, compare)


class _Late:
    """An attribute that `dataclasses` or `inspect` looks for, made for each class when it is first looked for."""

    _turn = RLock()

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, record: Record | None, cls: type[Record]) -> Any:
        with self._turn:
            if cls.__dict__[self._name] is self:
                _complete(cls)
        return cls.__dict__[self._name]


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Record:
    """Base of records, the annotated names of which are its fields. With ``eq=False`` each equals itself only."""

    _init: tuple[str, ...] = ()
    _shown: tuple[str, ...] = ()
    _compared: tuple[str, ...] = ()
    _defaults: Mapping[str, Any] = {}
    _special: Mapping[str, _Field] = {}

    def __init_subclass__(cls, *, eq: bool = True) -> None:
        names = _own_names(cls)
        found = {name: cls.__dict__[name] for name in names if name in cls.__dict__}
        special = {name: value for name, value in found.items() if isinstance(value, _Field)}
        for name in special:
            delattr(cls, name)  # as it would be found where a default is
        cls._special = {**cls._special, **special}
        cls._defaults = {**cls._defaults, **{name: found[name] for name in found if name not in special}}
        for kind, attribute in (("init", "_init"), ("repr", "_shown"), ("compare", "_compared")):
            own = (name for name in names if name not in special or getattr(special[name], kind))
            setattr(cls, attribute, (*getattr(cls, attribute), *own))
        setattr(cls, "__match_args__", cls._init)  # noqa: B010 - mypy has it for a constant
        for attribute in ("__dataclass_fields__", "__dataclass_params__", "__signature__"):
            setattr(cls, attribute, _Late(attribute))
        if not eq:
            cls.__eq__, cls.__hash__ = object.__eq__, object.__hash__  # type: ignore[method-assign]

    def __init__(self, *values: Any, **named: Any) -> None:
        names, state = self._init, self.__dict__
        state.update(zip(names, values, strict=False))
        for name in names[len(values) :]:
            if name in named:
                state[name] = named.pop(name)
            elif name in self._defaults:
                state[name] = self._defaults[name]
            elif name in self._special and (make := self._special[name].default_factory):
                state[name] = make()
        if named or len(values) > len(names) or len(state) < len(names):
            self._refuse(len(values), named)
        self.__post_init__()

    def __post_init__(self) -> None:
        """What a class checks, or derives by ``object.__setattr__``."""

    def _refuse(self, count: int, named: Mapping[str, Any]) -> NoReturn:
        what = f"{type(self).__qualname__}()"
        if count > len(self._init):
            raise TypeError(f"{what} takes {len(self._init)} arguments, and {count} are given")
        for name in named:
            said = "is given twice" if name in self._init else "is none of its arguments"
            raise TypeError(f"{what}: {name!r} {said}")
        raise TypeError(f"{what} needs {', '.join(repr(n) for n in self._init if n not in self.__dict__)}")

    def __setattr__(self, name: str, value: object) -> None:
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        return tuple(map(self.__dict__.__getitem__, self._compared))

    def __repr__(self) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self._shown)})"


def _own_names(cls: type) -> tuple[str, ...]:
    return tuple(cls.__dict__.get("__annotations__", ()))  # noqa: RUF063 - inspect takes long to import


class _Anew:
    """Stands in a signature for a default that is made anew each time."""

    def __repr__(self) -> str:
        return "<factory>"


def _complete(cls: type[Record]) -> None:
    """Gives `cls` what makes it a dataclass to others; what it does itself it keeps."""
    import dataclasses
    from inspect import Parameter, Signature

    for name, said in cls._special.items():
        if name in _own_names(cls):
            made: Any = said.default_factory or dataclasses.MISSING
            told = dataclasses.field(default_factory=made, init=said.init, repr=said.repr, compare=said.compare)
            setattr(cls, name, told)
    dataclasses.dataclass(frozen=True, init=False, repr=False, eq=False)(cls)
    types = {one.name: one.type for one in dataclasses.fields(cls)}  # type: ignore[arg-type]
    defaults = {**cls._defaults, **{name: _Anew() for name, said in cls._special.items() if said.default_factory}}
    cls.__signature__ = Signature(  # type: ignore[attr-defined]
        [
            Parameter(
                name,
                Parameter.POSITIONAL_OR_KEYWORD,
                default=defaults.get(name, Parameter.empty),
                annotation=types[name],
            )
            for name in cls._init
        ],
        return_annotation=None,
    )
