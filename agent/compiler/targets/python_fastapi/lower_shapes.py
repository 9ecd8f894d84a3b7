"""Shapes of bodies and sets of error bodies: equal ones are made once and named once."""

from collections.abc import Sequence
from typing import Any

from agent.compiler import ir
from agent.compiler.targets.python_fastapi.lower_resources import Model
from agent.compiler.targets.python_fastapi.names import Names
from agent.compiler.targets.python_fastapi.project import (
    ErrorBody,
    ErrorShapes,
    Shape,
    Shown,
)

Json = Any


class Shapes:
    """Equal shapes are one; nested ones come first."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._names = Names()
        self._made: dict[ir.Shape, Shape] = {}

    def name(self, shape: ir.Shape) -> str:
        """The Python name of a shape, made if need be."""
        if shape not in self._made:
            shown = tuple(
                Shown(
                    part.name,
                    part.property,
                    self.name(part.nested) if part.nested is not None else None,
                    part.null_when_absent,
                    part.match,
                )
                for part in shape.fields
            )
            named = self._model.named[shape.resource]
            constant = self._names.keep(named.constant.lower()).upper()
            self._made[shape] = Shape(constant, named.constant, shown)
        return self._made[shape].constant

    @property
    def all(self) -> tuple[Shape, ...]:
        """In the order in which they must be defined."""
        return tuple(self._made.values())


class Errors:
    """Equal sets of error shapes are one."""

    def __init__(self) -> None:
        self._made: list[ErrorShapes] = []
        self._bodies: list[ErrorBody] = []

    @property
    def bodies(self) -> tuple[ErrorBody, ...]:
        """In order of their first use."""
        return tuple(self._bodies)

    def _body(self, media_type: str, template: Json) -> str:
        for made in self._bodies:
            if (made.media_type, made.template) == (media_type, template):
                return made.constant
        constant = "ERROR" if not self._bodies else f"ERROR_{len(self._bodies) + 1}"
        self._bodies.append(ErrorBody(constant, media_type, template))
        return constant

    def name(self, errors: Sequence[ir.ErrorShape]) -> str | None:
        """The Python name of a set, None for an empty one."""
        if not errors:
            return None
        shapes = tuple((part.status, self._body(part.media_type, part.template)) for part in errors)
        for made in self._made:
            if made.shapes == shapes:
                return made.constant
        constant = "ERRORS" if not self._made else f"ERRORS_{len(self._made) + 1}"
        self._made.append(ErrorShapes(constant, shapes))
        return constant

    @property
    def all(self) -> tuple[ErrorShapes, ...]:
        """In order of their first use."""
        return tuple(self._made)
