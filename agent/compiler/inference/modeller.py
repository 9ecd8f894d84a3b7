"""From drafts to resources, one stage after the other: keys → parents → relations → properties; then shapes of bodies."""

from collections.abc import Iterable, Iterator, Mapping

from agent.compiler.inference.keys import Keys, made_keys
from agent.compiler.inference.model import Known, Model, Shaped
from agent.compiler.inference.parents import Parents
from agent.compiler.inference.paths import Route
from agent.compiler.inference.properties import Properties
from agent.compiler.inference.relations import Relations
from agent.compiler.inference.resources import Draft, Finder, Request
from agent.compiler.inference.shapes import Shapes
from agent.compiler.ir import ColumnType, PathKey, Resource
from agent.compiler.schemas.validation import Validator
from agent.compiler.schemas.views import Schemas


class Modeller:
    """Builds the models of one document, and answers for them."""

    def __init__(self, schemas: Schemas, validator: Validator, finder: Finder, routes: Mapping[str, Route]) -> None:
        self._known = Known(schemas, validator, finder, routes)
        self._shapes = Shapes(self._known)

    @property
    def models(self) -> dict[str, Model]:
        """By name of the resource, in the order of the drafts."""
        return self._known.models

    def build(self) -> None:
        """Fill `models`. Each stage runs over all of them, since the next one looks at their neighbours."""
        keys, parents = Keys(self._known), Parents(self._known)
        relations, properties = Relations(self._known), Properties(self._known)
        for draft in self._known.finder.drafts:
            self.models[draft.name] = keys.start(draft)
        for stage in (parents.tie, relations.relate, properties.store):
            for model in self.models.values():
                stage(model)

    def name_rows(self) -> Iterator[str]:
        """Refuse the empty text as a key that clients choose: no path could name the row. The pointers of what changed."""
        for model in self.models.values():
            has_items = any(group.at_item for group in model.draft.groups)
            for pointer in model.written.get(model.key.name, ()) if model.key.client and has_items else ():
                node = self._known.schemas.document.at(pointer)
                is_text = self._known.schemas.column(self._known.schemas.view(pointer)) is ColumnType.STRING
                if is_text and isinstance(node, dict) and self._known.validator.valid(pointer, "") is not False:
                    node["minLength"] = 1
                    yield pointer

    def of(self, draft: Draft | None) -> Model | None:
        """The model of a draft."""
        return self._known.of(draft)

    def of_schema(self, pointer: str) -> Model | None:
        """The model that a schema represents."""
        return self._known.of_schema(pointer)

    def path_property(self, model: Model, parameter: str) -> str | None:
        """The property that a path parameter names."""
        return self._known.path_property(model, parameter)

    def takes_keys(self, pointer: str, key: PathKey) -> bool:
        """Whether the schema of a path parameter lets in what the server makes for the key that it picks by."""
        model = self.models[key.resource]
        if key.property != model.key.name or model.key.generated is None:
            return True
        made = made_keys(model.key.generated, is_text="string" in self._known.schemas.view(pointer).types)
        return all(self._known.validator.valid(pointer, one) is not False for one in made)

    def response_shape(self, model: Model, pointer: str) -> Shaped:
        """How a response shows a row."""
        return self._shapes.response_shape(model, pointer)

    def request_shape(self, model: Model, request: Request) -> Shaped:
        """What a request gives."""
        return self._shapes.request_shape(model, request)

    def missing(self, model: Model, shaped: Shaped, given: Iterable[str]) -> Iterator[str]:
        """What responses require and nothing supplies."""
        return self._shapes.missing(model, shaped, given)

    def resource(self, model: Model) -> Resource:
        """The finished resource."""
        scope = self._key_scope(model)
        return Resource(
            name=model.name,
            key=model.key.name,
            properties=tuple(model.properties.values()),
            references=tuple(model.references.values()),
            collections=tuple(model.collections.values()),
            singleton=model.draft.singleton,
            schema_pointer=model.draft.entity,
            key_scope=scope,
        )

    def _key_scope(self, model: Model) -> tuple[str, ...]:
        """A key that clients choose is unique within its parent only, if it is reached through the parent only."""
        home = model.draft.home
        if not model.key.client or not home.is_nested:
            return ()
        parent = model.parents.get(home.key)
        scopes = tuple(scope.property for scope in model.scopes.get(home.key, ()))
        return (*scopes, *((parent.reference,) if parent and parent.reference else ()))
