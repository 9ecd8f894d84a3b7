"""What each operation does, or why no rule can tell: the rules in order, first match wins.

A rule takes a `Case` and returns an `Outcome`, or None to let the next one look. Whatever stands against a derivation
(a required field without a source, a form that responses do not allow) is raised as `NotDerived` and becomes the reason
of a hook: never a fake 200.
"""

from collections.abc import Callable
from dataclasses import replace

from agent.compiler.inference import vocabulary
from agent.compiler.inference.model import Model
from agent.compiler.inference.paths import Group, Route
from agent.compiler.inference.resources import Request, side_effect
from agent.compiler.inference.response import Answer, Kind
from agent.compiler.ir import (
    Action,
    EnvelopeField,
    Meta,
    PathKey,
    Plan,
    Property,
    Wrapper,
)
from agent.compiler.rules.case import Case, NotDerived, Outcome, Rule, hooked, need_none, refused
from agent.compiler.rules.parts import Ground
from agent.compiler.rules.reads import Reads
from agent.compiler.rules.writes import Writes
from agent.compiler.schemas.document import RawOperation
from agent.compiler.words import fold, same_noun, words

_CONDITIONS = ("if-match", "if-unmodified-since")


class Planner(Reads, Writes):
    """Applies the rules to the operations of one document."""

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        self._served: set[tuple[str, str]] = set()
        self.rules: tuple[Rule, ...] = (
            self._unsupported,
            self._media,
            self._unusual,
            self._health,
            self._caller,
            self._authentication,
            self._report,
            self._side_effect,
            self._action,
            self._field_update,
            self._membership,
            self._view,
            self._by_method,
        )

    def plan(self, operation: RawOperation) -> Outcome:
        """The verdict on an operation."""
        route = self._routes[operation.path]
        model = None if route.odd else self._modeller.of(self._finder.of_group(route.collection))
        answer = Answer(Kind.NOTHING) if route.odd else self._finder.answer(operation)
        case = Case(operation, route, model, answer)
        try:
            for rule in self.rules:
                outcome = rule(case)
                if outcome is not None:
                    self._need_open_path(case, outcome)
                    return outcome
        except NotDerived as against:
            return hooked(case.rule, str(against))
        return hooked("unknown", "no rule knows what it does")

    def _need_open_path(self, case: Case, outcome: Outcome) -> None:
        """Raises NotDerived where the path does not let in a key that the server makes."""
        plan = outcome.plan
        for key in (*plan.ancestors, *([plan.key] if plan.key else [])) if plan else ():
            parameter = case.operation.parameter(key.parameter, "path")
            if parameter is not None and not self._modeller.takes_keys(parameter.schema_pointer, key):
                raise NotDerived(f"`{key.parameter}` does not allow every key that the server makes for {key.resource}")

    # --- what cannot be served or understood at all ---

    def _unsupported(self, case: Case) -> Outcome | None:
        if case.route.odd:
            return refused("path", case.route.odd)
        template = (
            case.operation.method,
            "/".join("{}" if "{" in one else one for one in case.operation.path.split("/")),
        )
        if template in self._served:
            return refused("path-ambiguous", "another operation has the same method and path template")
        self._served.add(template)
        problem = self._security(case.operation)
        if problem:
            return refused("security", problem)
        if case.operation.method in ("HEAD", "OPTIONS", "TRACE"):
            return hooked("method", f"the method {case.operation.method} has no rule")
        if case.route.mixed:
            return hooked("path-mixed", "a path segment mixes text and parameter")
        return None

    def _media(self, case: Case) -> Outcome | None:
        """Rule 17: only JSON goes in and out."""
        body = case.operation.body
        if body and not body.is_empty and case.operation.method == "GET":
            if body.required:
                return hooked(
                    "media", "a GET has no body by HTTP, and the document does not say what this one asks for"
                )
            case.doubt(1, "the body of a GET has no effect")
        if body and not body.is_empty and body.json_media is None:
            files = any(
                one.startswith(("multipart/", "application/octet", "image/", "audio/", "video/")) for one in body.others
            )
            media = ", ".join(body.others)
            return (
                hooked("file", f"it takes a file ({media})")
                if files
                else hooked("media", f"it takes {media}, not JSON")
            )
        answer = case.operation.answer
        if not answer.is_empty and answer.json_media is None and case.operation.success_code != 204:
            return hooked("media", f"it answers {', '.join(answer.others)}, not JSON")
        return None

    def _unusual(self, case: Case) -> Outcome | None:
        operation = case.operation
        if not operation.success:
            if operation.method == "GET" or any(one[0] not in "45" for one in operation.responses):
                return hooked("no-success", "the document declares no success")
            case.doubt(1, "the document declares no success; a 204 without a body is sent")
        if operation.success_code == 202:
            return hooked(
                "asynchronous", "it answers 202: the work is done later, in a way that the document does not say"
            )
        conditions = [one.name for one in operation.parameters if one.name.lower() in _CONDITIONS]
        if conditions and {"412", "428"} & operation.responses.keys():
            return hooked(
                "precondition", f"`{conditions[0]}` decides over it, and nothing says what an entity tag is made of"
            )
        headers = self._missing_headers(operation)
        if headers:
            return hooked("response-header", f"the response header {headers[0]} is required and nothing supplies it")
        return None

    # --- rules by words ---

    def _health(self, case: Case) -> Outcome | None:
        noun = fold(case.route.noun)
        is_version = noun in vocabulary.VERSION
        if not is_version and noun not in vocabulary.HEALTH:
            return None
        if case.operation.method != "GET" or case.route.steps or self._has_items(case):
            return None
        case.rule = "health"
        if case.answer.kind is Kind.NOTHING:
            return case.derived(Plan(Action.PING, ""))
        pointer = case.operation.answer.schema_pointer
        if case.answer.kind is not Kind.ITEM or pointer is None:
            raise NotDerived("what it tells about the service is not defined")
        wrapper, missing = self._responses.bare(pointer)
        if is_version:
            wrapper = self._with_version(wrapper)
            missing = tuple(name for name in missing if name != "version")
        need_none(f"nothing supplies `{name}`" for name in missing)
        if is_version and "version" not in self._schemas.entity(pointer).properties:
            raise NotDerived("what it tells about the service is not defined")
        return case.derived(Plan(Action.PING, "", wrapper=wrapper))

    def _with_version(self, wrapper: Wrapper) -> Wrapper:
        version = EnvelopeField(("version",), Meta.CONSTANT, self._document.tree["info"]["version"])
        return replace(wrapper, fields=(*(one for one in wrapper.fields if one.path != version.path), version))

    def _caller(self, case: Case) -> Outcome | None:
        names = _statics(case.route)
        is_last = bool(names) and names[-1] in vocabulary.MYSELF and not case.route.ends_with_item
        if {"me", "self", "myself"}.isdisjoint(names) and not (is_last and not self._has_items(case)):
            return None
        return hooked("caller", "whose it is depends on who calls, and no property says how")

    def _authentication(self, case: Case) -> Outcome | None:
        """Rule 18: on the last segment only, and a stored collection of that name wins."""
        noun = fold(case.route.noun)
        if noun in vocabulary.AUTH and case.model is None:
            return hooked("authentication", "it is about logging in, not about stored things")
        return None

    def _report(self, case: Case) -> Outcome | None:
        if case.operation.method != "GET":
            return None
        if not vocabulary.REPORTS.isdisjoint(_statics(case.route)) and not self._has_items(case):
            return hooked("report", "it answers what is computed, and the document does not say how")
        if case.answer.kind is Kind.OTHER:
            return hooked("report", "it answers a value that is computed, not a stored thing")
        return None

    def _side_effect(self, case: Case) -> Outcome | None:
        """Verbs that mean more than a changed row (audit: what only prose shows)."""
        verb = side_effect(case.operation)
        if verb is None:
            return None
        return hooked("side-effect", f"to {verb} is more than to store: the document does not say what happens")

    def _action(self, case: Case) -> Outcome | None:
        """Rule 16: a verb as last segment, without a list of that name."""
        noun = fold(case.route.noun)
        first = words(case.route.noun)[:1]
        verbal = noun in vocabulary.ACTIONS or (
            len(words(case.route.noun)) > 1 and first[0] in vocabulary.ACTIONS and case.operation.method != "GET"
        )
        group = self._groups.get(case.route.collection)
        listed = (
            group is not None
            and "GET" in group.at_collection
            and self._finder.answer(group.at_collection["GET"]).kind is Kind.ITEMS
        )
        own = case.model is not None and case.model.draft.home.key == case.route.collection
        if not verbal or listed or own:
            return None
        return hooked("action", f"`{case.route.noun}` is an action: the document does not say what it changes")

    def _view(self, case: Case) -> Outcome | None:
        """Rule 15: a static segment beside `/{id}`, or a word that selects by prose."""
        if case.operation.method != "GET":
            return None
        collection = case.route.collection
        if not vocabulary.VIEW_WORDS.isdisjoint(_statics(case.route)[1:]):
            return hooked("view", f"`{collection[-1]}` is a selection that only prose defines")
        beside = self._groups.get(collection[:-1])
        if beside is None or not beside.at_item or len(collection) < 2 or collection[-2] == "{}":
            return None
        if case.route.ends_with_item or self._has_items(case):
            return None
        named = self._named_query(case, beside)
        return named or hooked("view", f"`{collection[-1]}` is a named view: the document declares no query for it")

    def _named_query(self, case: Case, beside: Group) -> Outcome | None:
        """`/pets/findByStatus?status=`: the name says no more than the declared parameters do."""
        model = case.model or self._modeller.of(self._finder.of_group(beside.key))
        if model is None or case.answer.kind is not Kind.ITEMS:
            return None
        parts = self._lists.read(case.operation, model, has_next=False)
        said = set(words(case.route.noun)) - {
            "find",
            "search",
            "list",
            "get",
            "by",
            "all",
            "query",
            "filter",
            "and",
            "with",
            "for",
        }
        meant = {word for one in parts.filters for word in words(one.property) + words(one.parameter)}
        plain = all(any(same_noun(word, other) for other in (*meant, *words(model.draft.noun))) for word in said)
        if parts.unknown or not plain or not parts.filters:
            return None
        case.doubt(1, f"`{case.route.noun}` could mean more than its parameters say")
        case.model = model
        return self._list(case)

    # --- parts of things ---

    def _field_update(self, case: Case) -> Outcome | None:
        """`PUT /users/{name}/email`: the segment names the one property that the body holds."""
        operation, route = case.operation, case.route
        body = operation.body.schema_pointer if operation.body else None
        if (
            operation.method not in ("PUT", "PATCH")
            or body is None
            or route.ends_with_item
            or case.model is not None
            or not route.steps
        ):
            return None
        owner = self._modeller.of(self._finder.of_group(route.steps[-1].collection))
        names = self._schemas.entity(body).properties
        if (
            owner is None
            or len(route.collection) != len(route.steps[-1].collection) + 2
            or [fold(one) for one in names] != [fold(route.noun)]
        ):
            return None
        name = next(iter(names))
        if name not in owner.properties and not self._adopt(owner, name, names[name]):
            return hooked("field-update", f"`{name}` is no property of {owner.name}")
        case.rule, case.model = "field-update", owner
        case.doubt(1, f"`{name}` could be more than a stored property")
        located = self._locate(case, route.steps[-1])
        return self._changed(case, Action.PATCH, Request(self._schemas.final(body)), located)

    def _adopt(self, owner: Model, name: str, pointers: tuple[str, ...]) -> bool:
        """A property that only this operation writes: a secret that no representation shows."""
        if fold(name) not in vocabulary.SECRETS:
            return False
        view = self._schemas.merged(pointers)
        owner.properties[name] = Property(
            name, self._schemas.column(view), False, False, pointer=pointers[0], write_only=True, secret=True
        )
        owner.written[name] = pointers
        return True

    def _membership(self, case: Case) -> Outcome | None:
        """Rule 14: members of a many-to-many relation: list, link, unlink."""
        parent = case.model.parents.get(case.route.collection) if case.model else None
        if case.model is None or parent is None or parent.through is None:
            return None
        case.doubt(1, f"`{case.route.noun}` could be owned by the {parent.target.name} rather than shared")
        if case.operation.method == "GET" and not case.route.ends_with_item and case.answer.kind is Kind.ITEMS:
            return self._list(case)
        if case.operation.method == "DELETE" and case.route.ends_with_item:
            return self._link(case, Action.UNLINK)
        if case.operation.method in ("PUT", "POST"):
            return self._link(case, Action.LINK)
        return hooked("membership", "of a relation only list, link and unlink have a rule")

    def _link(self, case: Case, action: Action) -> Outcome:
        case.rule = "membership"
        parent = case.thing.parents[case.route.collection]
        owner = self._modeller.of(parent.target)
        assert owner is not None
        steps = case.route.ancestors
        chain = self._chain(steps[:-1], owner)
        key = self._key(owner, steps[-1])
        member, body = self._member(case)
        shown = self._shown(case)
        key = replace(key, via=chain.via, scopes=chain.scopes)
        plan = Plan(
            action,
            owner.name,
            chain.ancestors,
            key,
            shape=shown.shape,
            wrapper=shown.wrapper,
            link=parent.through,
            member=member,
            via=chain.via,
        )
        case.rule = action.value
        return case.derived(plan, body)

    def _member(self, case: Case) -> tuple[PathKey, Request | None]:
        """The other row: by the path, or by a key in the body. Raises NotDerived."""
        model = case.thing
        if case.route.ends_with_item:
            return self._key(model, case.route.steps[-1]), None
        request = self._finder.request(case.operation, model.draft)
        if request is None or request.many or model.key.name not in self._schemas.entity(request.entity).properties:
            raise NotDerived(f"the body does not say which {model.name} is meant")
        return PathKey("", model.name, model.key.name), request

    # --- create, read, replace, change, delete ---

    def _by_method(self, case: Case) -> Outcome:
        if case.model is None:
            return hooked("unknown", self._why_unknown(case))
        rules: dict[tuple[str, bool], Callable[[Case], Outcome]] = {
            ("GET", False): self._get_collection,
            ("GET", True): self._get_item,
            ("POST", False): self._create,
            ("POST", True): self._update_by_post,
            ("PUT", False): self._put_collection,
            ("PUT", True): self._put_item,
            ("PATCH", False): self._patch_collection,
            ("PATCH", True): self._patch_item,
            ("DELETE", False): self._delete_collection,
            ("DELETE", True): self._delete_item,
        }
        return rules[case.operation.method, case.route.ends_with_item](case)

    def _why_unknown(self, case: Case) -> str:
        if case.operation.method == "GET":
            return "what it answers is no stored thing that another operation creates or lists"
        return f"`{case.route.noun or '/'}` is no collection of things that the document describes"


def _statics(route: Route) -> list[str]:
    """The names in a path, folded, without its parameters."""
    return [fold(one) for one in route.collection if one != "{}"]
