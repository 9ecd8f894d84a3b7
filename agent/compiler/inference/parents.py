"""Ties of nested collections to what stands above them in the path. Rule 8."""

from agent.compiler.inference.model import Known, Model, Parent
from agent.compiler.inference.paths import Group, Step
from agent.compiler.ir import Collection, ColumnType, Property, Reference, Scope
from agent.compiler.schemas.document import RawOperation
from agent.compiler.words import fold, singular


class Parents:
    """Fills `parents` and `scopes` of the models, and the references and memberships that follow from them."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._schemas = known.schemas

    def tie(self, model: Model) -> None:
        """Tie every nested collection of `model` to the nearest ancestor that is a resource."""
        for group in model.draft.groups:
            if not group.is_nested:
                continue
            operation = next(iter(group.operations()), None)
            if operation is None:
                continue
            steps = [step for step in self._known.routes[operation.path].steps if len(step.collection) < len(group.key)]
            steps = [step for step in steps if step.collection != group.key]
            unknown = self._unknown_steps(steps)
            if unknown:
                model.scopes[group.key] = tuple(self._scope(model, step, operation) for step in unknown)
            if steps and steps[-1] not in unknown:
                parent = self._known.of(self._known.finder.of_group(steps[-1].collection))
                if parent is not None and parent is not model:
                    model.parents[group.key] = self._parent(model, group, parent, steps[-1])

    def _unknown_steps(self, steps: list[Step]) -> list[Step]:
        """Steps after the last known ancestor whose collection is no resource."""
        unknown: list[Step] = []
        for step in reversed(steps):
            if self._known.finder.of_group(step.collection) is not None:
                break
            unknown.append(step)
        return list(reversed(unknown))

    def _scope(self, model: Model, step: Step, operation: RawOperation) -> Scope:
        known = {fold(name): name for name in model.reads if name != model.key.name}
        named = step.collection[-1] if step.collection and step.collection[-1] != "{}" else ""
        noun = fold(singular(named))
        for candidate in (fold(step.parameter), *((noun, noun + "id") if noun else ())):
            if candidate in known and self._known.is_scalar(model.reads[known[candidate]]):
                return Scope(step.parameter, known[candidate])
        if step.parameter == model.key.name:
            return Scope(step.parameter, "")
        parameter = operation.parameter(step.parameter, "path")
        column = self._schemas.column(self._schemas.view(parameter.schema_pointer)) if parameter else ColumnType.STRING
        column = ColumnType.STRING if column is ColumnType.JSON else column
        model.properties.setdefault(
            step.parameter, Property(step.parameter, column, False, True, hidden=True, pointer=operation.pointer)
        )
        return Scope(step.parameter, step.parameter)

    def _parent(self, model: Model, group: Group, parent: Model, step: Step) -> Parent:
        visible = self._parent_property(model, parent, step)
        if visible is None and self._is_membership(model, group):
            return Parent(parent.draft, None, self._membership(model, group, parent))
        name = visible or step.parameter
        while visible is None and (name in model.reads or name in model.written or self._taken(model, name, parent)):
            name += "_parent"
        embedded = (
            visible is not None and self._schemas.column(self._schemas.merged(model.reads[visible])) is ColumnType.JSON
        )
        existing = model.references.get(name)
        model.references[name] = existing or Reference(
            name,
            parent.name,
            embedded=embedded,
            required=self._always_below(model, parent),
            nullable=visible is not None and self._schemas.nullable(model.reads[visible]),
            visible=visible is not None,
            parent=True,
            pointer=model.reads[visible][0] if visible else model.draft.entity,
        )
        return Parent(parent.draft, name)

    def _taken(self, model: Model, name: str, parent: Model) -> bool:
        return name in model.references and model.references[name].target != parent.name

    def _parent_property(self, model: Model, parent: Model, step: Step) -> str | None:
        """The child's property that shows its parent: `ownerId`, the parameter's own name, or the embedded parent."""
        nouns = self._known.nouns(parent)
        key = fold(parent.key.name)
        wanted = [fold(step.parameter), *(noun + "id" for noun in nouns), *(noun + key for noun in nouns)]
        folded = {fold(name): name for name in model.reads}
        for one in wanted:
            name = folded.get(one)
            if (
                name
                and name != model.key.name
                and self._schemas.column(self._schemas.merged(model.reads[name])) is parent.key.column
            ):
                return name
        for noun in nouns:
            name = folded.get(noun)
            if name and self._known.of_schema(model.reads[name][0]) is parent:
                return name
        return None

    def _is_membership(self, model: Model, group: Group) -> bool:
        """Below another thing, but with a collection of its own: members, unless they are made here and only here."""
        if model.draft.home.key == group.key:
            return False
        picks = [self._known.path_property(model, name) for name in group.item_parameters]
        if model.draft.home.is_nested and (not picks or any(picks)):
            return False
        makes = "POST" in group.at_collection and any(
            operation is group.at_collection["POST"] for operation, _ in model.creates
        )
        return not makes

    def _always_below(self, model: Model, parent: Model) -> bool:
        """Whether every row is made below this parent (or names it)."""
        makers = [operation for operation, _ in model.creates]
        below = [
            one
            for one in makers
            if self._known.routes[one.path].steps
            and self._known.finder.of_group(self._known.routes[one.path].steps[-1].collection) is parent.draft
        ]
        if not makers:
            return (
                all(group.is_nested for group in model.draft.groups)
                and len({self._parent_key(group) for group in model.draft.groups}) == 1
            )
        nouns = [noun + "id" for noun in self._known.nouns(parent)]
        naming = [
            operation
            for operation, request in model.creates
            if operation not in below
            and any(fold(name) in nouns for name in self._schemas.entity(request.entity).required)
        ]
        return len(below) + len(naming) == len(makers)

    @staticmethod
    def _parent_key(group: Group) -> tuple[str, ...]:
        return group.key[: len(group.key) - 1 - group.key[::-1].index("{}")] if "{}" in group.key else ()

    def _membership(self, model: Model, group: Group, parent: Model) -> str:
        """A many-to-many relation that only paths speak of: one link table, seen from both sides."""
        name = group.noun
        while name in parent.reads or name in parent.written:
            name += "_members"
        mirror = next(
            (
                one
                for one in model.collections.values()
                if one.target == parent.name and one.through and not one.visible
            ),
            None,
        )
        inverse = mirror.name if mirror and mirror.inverse is None else None
        parent.collections.setdefault(
            name, Collection(name, model.name, None, True, False, group.noun, visible=False, inverse=inverse)
        )
        return name
