"""What each operation does, or why no rule can tell: the rules in order, first match wins.

A rule takes a `Case` and returns an `Outcome`, or None to let the next one look. Whatever stands against a derivation
(a required field without a source, a form that responses do not allow) becomes the reason of a hook: never a fake 200.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agent.compiler import infer_vocabulary as vocabulary
from agent.compiler.infer_document import Document, RawOperation, RawParameter
from agent.compiler.infer_lists import ListParts, Lists
from agent.compiler.infer_model import Model, Modeller, Shaped
from agent.compiler.infer_paths import Group, GroupKey, Route, Step
from agent.compiler.infer_resources import Finder, Request, side_effect
from agent.compiler.infer_response import Answer, Kind, Responses
from agent.compiler.infer_schema import Schemas
from agent.compiler.ir import (
    Action,
    EnvelopeField,
    Filter,
    HeaderField,
    Meta,
    PagingStyle,
    PathKey,
    Place,
    Plan,
    Property,
    Scope,
    Shape,
    Verdict,
    VersionCheck,
    Wrapper,
)
from agent.compiler.words import fold, same_noun, words

Json = Any

_HEADERS = {
    "location": None,  # Plan.location
    "etag": None,
    "xtotalcount": Meta.TOTAL,
    "xtotal": Meta.TOTAL,
    "totalcount": Meta.TOTAL,
    "xrequestid": Meta.REQUEST_ID,
    "xcorrelationid": Meta.REQUEST_ID,
    "link": Meta.NEXT_LINK,
    "xnextcursor": Meta.NEXT_CURSOR,
}
_CONFIDENCE = ("high", "medium", "low")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict on one operation."""

    verdict: Verdict
    rule: str
    reason: str | None = None
    plan: Plan | None = None
    body: Request | None = None
    confidence: str = "high"
    alternative: str | None = None


def hooked(rule: str, reason: str) -> Outcome:
    """Not derivable: a hole."""
    return Outcome(Verdict.HOOKED, rule, reason)


def refused(rule: str, reason: str) -> Outcome:
    """A feature that is not supported, by name."""
    return Outcome(Verdict.REFUSED, rule, reason)


@dataclass(slots=True)
class Case:
    """One operation with all that is known before a rule looks at it."""

    operation: RawOperation
    route: Route
    model: Model | None
    answer: Answer
    doubts: list[tuple[int, str]] = field(default_factory=list)  # (level of confidence, the alternative reading)

    def doubt(self, level: int, alternative: str) -> None:
        """Note that the reading could be wrong, and how."""
        self.doubts.append((level, alternative))

    def derived(self, rule: str, plan: Plan, body: Request | None = None) -> Outcome:
        """A derivation, with the confidence that the doubts leave."""
        level = max((level for level, _ in self.doubts), default=0)
        alternative = "; ".join(dict.fromkeys(text for _, text in self.doubts)) or None
        return Outcome(Verdict.DERIVED, rule, None, plan, body, _CONFIDENCE[level], alternative)


Rule = Callable[[Case], Outcome | None]


class Planner:
    """Applies the rules to the operations of one document."""

    def __init__(
        self,
        document: Document,
        schemas: Schemas,
        responses: Responses,
        finder: Finder,
        modeller: Modeller,
        routes: Mapping[str, Route],
        groups: Mapping[GroupKey, Group],
        security: Callable[[RawOperation], str | None],
    ) -> None:
        self._document = document
        self._schemas = schemas
        self._responses = responses
        self._finder = finder
        self._modeller = modeller
        self._routes = routes
        self._groups = groups
        self._security = security
        self._lists = Lists(schemas)
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
        for rule in self.rules:
            outcome = rule(case)
            if outcome is not None:
                return outcome
        return hooked("unknown", "no rule knows what it does")

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
            return hooked("no-success", "the document declares no success")
        if operation.success_code == 202:
            return hooked(
                "asynchronous", "it answers 202: the work is done later, in a way that the document does not say"
            )
        headers = self._missing_headers(operation)
        if headers:
            return hooked("response-header", f"the response header {headers[0]} is required and nothing supplies it")
        return None

    def _missing_headers(self, operation: RawOperation) -> list[str]:
        pointer, response = operation.responses[operation.success]
        missing = []
        for name in response.get("headers", {}):
            _, header = self._document.follow(f"{pointer}/headers/{name.replace('~', '~0').replace('/', '~1')}")
            if header.get("required") is True and fold(name) not in _HEADERS:
                missing.append(name)
        return missing

    # --- rules by words ---

    def _health(self, case: Case) -> Outcome | None:
        noun = fold(case.route.noun)
        wanted = noun in vocabulary.HEALTH or noun in vocabulary.VERSION
        if case.operation.method != "GET" or case.route.steps or not wanted or self._has_items(case):
            return None
        if case.answer.kind is Kind.NOTHING:
            return case.derived("health", Plan(Action.PING, ""))
        if case.answer.kind is not Kind.ITEM or case.operation.answer.schema_pointer is None:
            return hooked("health", "what it tells about the service is not defined")
        wrapper, missing = self._responses.bare(case.operation.answer.schema_pointer)
        missing = tuple(one for one in missing if not (noun in vocabulary.VERSION and one == "version"))
        if noun in vocabulary.VERSION:
            version = self._document.tree["info"]["version"]
            wrapper = replace(
                wrapper,
                fields=(
                    *(one for one in wrapper.fields if one.path != ("version",)),
                    EnvelopeField(("version",), Meta.CONSTANT, version),
                ),
            )
        if missing:
            return hooked("health", f"nothing supplies `{missing[0]}`")
        if noun in vocabulary.VERSION and not self._schemas.entity(
            case.operation.answer.schema_pointer
        ).properties.keys() & {"version"}:
            return hooked("health", "what it tells about the service is not defined")
        return case.derived("health", Plan(Action.PING, "", wrapper=wrapper))

    def _has_items(self, case: Case) -> bool:
        group = self._groups.get(case.route.collection)
        return group is not None and bool(group.at_item or "POST" in group.at_collection)

    def _caller(self, case: Case) -> Outcome | None:
        statics = [fold(one) for one in case.route.collection if one != "{}"]
        if any(one in ("me", "self", "myself") for one in statics):
            return hooked("caller", "whose it is depends on who calls, and no property says how")
        last_alone = (
            bool(statics)
            and statics[-1] in vocabulary.MYSELF
            and not self._has_items(case)
            and not case.route.ends_with_item
        )
        return hooked("caller", "whose it is depends on who calls, and no property says how") if last_alone else None

    def _authentication(self, case: Case) -> Outcome | None:
        """Rule 18: on the last segment only, and a stored collection of that name wins."""
        noun = fold(case.route.noun)
        if noun in vocabulary.AUTH and case.model is None:
            return hooked("authentication", "it is about logging in, not about stored things")
        return None

    def _report(self, case: Case) -> Outcome | None:
        if case.operation.method != "GET":
            return None
        statics = [fold(one) for one in case.route.collection if one != "{}"]
        if any(one in vocabulary.REPORTS for one in statics) and not self._has_items(case):
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
        statics = [one for one in collection if one != "{}"]
        if any(fold(one) in vocabulary.VIEW_WORDS for one in statics[1:]):
            return hooked("view", f"`{collection[-1]}` is a selection that only prose defines")
        beside = self._groups.get(collection[:-1])
        group = self._groups.get(collection)
        if (
            len(collection) < 2
            or collection[-2] == "{}"
            or beside is None
            or not beside.at_item
            or case.route.ends_with_item
        ):
            return None
        if group is not None and (group.at_item or "POST" in group.at_collection):
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
        return self._list(replace_model(case, model))

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
        case.doubt(1, f"`{name}` could be more than a stored property")
        return self._change(
            replace_model(case, owner), Action.PATCH, "field-update", Request(self._schemas.final(body)), route.steps
        )

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
        assert case.model is not None
        parent = case.model.parents[case.route.collection]
        owner = self._modeller.of(parent.target)
        assert owner is not None
        steps = case.route.ancestors
        chain = self._chain(steps[:-1], owner)
        key = self._key(owner, steps[-1])
        member, body = self._member(case)
        problem = (
            chain.problem or (key if isinstance(key, str) else None) or (member if isinstance(member, str) else None)
        )
        if problem or isinstance(key, str) or isinstance(member, str):
            return hooked("membership", problem or "")
        shown = self._shown(case, case.model)
        if isinstance(shown, str):
            return hooked("membership", shown)
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
        return case.derived(action.value, plan, body)

    def _member(self, case: Case) -> tuple[PathKey | str, Request | None]:
        """The other row: by the path, or by a key in the body."""
        assert case.model is not None
        model = case.model
        if case.route.ends_with_item:
            return self._key(model, case.route.steps[-1]), None
        request = self._finder.request(case.operation, model.draft)
        if request is None or request.many or model.key.name not in self._schemas.entity(request.entity).properties:
            return f"the body does not say which {model.name} is meant", None
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

    def _get_collection(self, case: Case) -> Outcome:
        assert case.model is not None
        if case.answer.kind is Kind.ITEMS:
            return self._list(case)
        if case.answer.kind is Kind.ITEM and case.model.draft.singleton:
            return self._get(case, "singleton", None)
        return hooked("unknown", "it answers neither a list nor a thing that can be written")

    def _get_item(self, case: Case) -> Outcome:
        assert case.model is not None
        if case.answer.kind is Kind.ITEMS:
            return self._list(case)
        if case.answer.kind is not Kind.ITEM:
            return hooked("unknown", "it answers nothing that is stored")
        return self._get(case, "lookup" if case.route.steps[-1].field else "get", case.route.steps[-1])

    def _get(self, case: Case, rule: str, step: Step | None) -> Outcome:
        model = case.model
        assert model is not None
        located = self._locate(case, model, step)
        if isinstance(located, str):
            return hooked(rule, located)
        shown = self._shown(case, model)
        if isinstance(shown, str):
            return hooked(rule, shown)
        if shown.shape is None:
            return hooked(rule, "it answers nothing that is stored")
        self._doubt_makers(case, model)
        ignored = self._ignored(case, ())
        if isinstance(ignored, str):
            return hooked(rule, ignored)
        plan = Plan(
            Action.GET,
            model.name,
            located.ancestors,
            located.key,
            scopes=located.scopes,
            wrapper=shown.wrapper,
            shape=shown.shape,
            via=located.via,
            ignored=ignored,
        )
        return case.derived(rule, plan)

    def _list(self, case: Case) -> Outcome:
        """Rules 3, 10, 11."""
        model = case.model
        assert model is not None
        assert case.answer.entity is not None
        rule = "list"
        if case.answer.entity not in model.draft.reads and self._modeller.of_schema(case.answer.entity) is not model:
            return hooked(rule, f"the items that it answers are not described as a {model.name}")
        if case.answer.missing:
            return hooked(rule, f"nothing supplies `{case.answer.missing[0]}` of the envelope")
        chain = self._list_chain(case, model)
        if isinstance(chain, str):
            return hooked(rule, chain)
        shaped = self._modeller.response_shape(model, case.answer.entity)
        if shaped.problems:
            return hooked(rule, shaped.problems[0])
        has_next = any(
            one.source in (Meta.NEXT_CURSOR, Meta.NEXT_LINK) for one in case.answer.wrapper.fields
        ) or self._has_link_header(case.operation)
        parts = self._lists.read(case.operation, model, has_next)
        ignored = self._ignored(case, parts.unknown, parts.ignored)
        if isinstance(ignored, str):
            return hooked(rule, ignored)
        self._doubt_makers(case, model)
        located, filters = chain
        plan = Plan(
            Action.LIST,
            model.name,
            located.ancestors,
            filters=(*filters, *parts.filters),
            sort=parts.sort,
            paging=parts.paging,
            search=parts.search,
            wrapper=_fitting(case.answer.wrapper, parts),
            shape=shaped.shape,
            via=located.via,
            through=located.through,
            scopes=located.scopes,
            ignored=ignored,
            headers=self._headers(case.operation, many=True),
        )
        return case.derived("membership" if located.through else rule, plan)

    def _list_chain(self, case: Case, model: Model) -> "tuple[Located, list[Filter]] | str":
        """Ancestors of a list; what remains of the path's parameters must be filters (`/jobs/status/{status}`)."""
        steps = list(case.route.steps)
        own = [step for step in steps if self._is_ancestor(step, case.route, model)]
        filters: list[Filter] = []
        for step in steps:
            if step in own:
                continue
            found = self._path_filter(case, model, step)
            if found is None:
                return f"the path parameter `{step.parameter}` equals no property of {model.name}"
            case.doubt(1, f"`{step.parameter}` could be more than a filter by `{found.property}`")
            filters.append(found)
        located = self._chain(tuple(own), model, case.route.collection)
        return located.problem or (located, filters)

    def _is_ancestor(self, step: Step, route: Route, model: Model) -> bool:
        if step.field is not None or (route.ends_with_item and step is route.steps[-1]):
            return False
        known = self._finder.of_group(step.collection)
        return (known is not None and known is not model.draft) or route.collection in model.scopes

    def _path_filter(self, case: Case, model: Model, step: Step) -> Filter | None:
        parameter = case.operation.parameter(step.parameter, "path")
        if parameter is None:
            return None
        before = "".join(step.collection[-1:]) if step.field else ""
        for name in (f"{before}{step.field or ''}", step.field or "", step.parameter):
            renamed = replace(parameter, name=name)
            found = self._lists.filter(renamed, model, Place.PATH) if name and name != "{}" else None
            if found:
                return replace(found, parameter=step.parameter)
        return None

    def _create(self, case: Case) -> Outcome:
        model = case.model
        assert model is not None
        request = self._finder.request(case.operation, model.draft)
        if request is None:
            return hooked(
                "create",
                f"its body does not describe a {model.name}"
                if case.operation.body
                else "it has no body that describes what is made",
            )
        located = self._locate(case, model, None)
        if isinstance(located, str):
            return hooked("create", located)
        shaped = self._modeller.request_shape(model, request)
        given = {located.via} if located.via else set()
        lacking = [*shaped.problems, *self._unsourced(model, shaped, given, located)]
        if lacking:
            return hooked("create", lacking[0])
        if request.many:
            return self._create_many(case, model, request, located)
        shown = self._shown(case, model)
        if isinstance(shown, str):
            return hooked("create", shown)
        self._doubt_key(case, model)
        ignored = self._ignored(case, ())
        if isinstance(ignored, str):
            return hooked("create", ignored)
        plan = Plan(
            Action.CREATE,
            model.name,
            located.ancestors,
            scopes=located.scopes,
            wrapper=shown.wrapper,
            shape=shown.shape,
            location=case.operation.success_code == 201 and self._has_item_path(model, case.route),
            via=located.via,
            ignored=ignored,
        )
        return case.derived("create", plan, request)

    def _doubt_key(self, case: Case, model: Model) -> None:
        for name in (
            self._groups[case.route.collection].item_parameters if case.route.collection in self._groups else ()
        ):
            if self._modeller.path_property(model, name) is None and model.key.visible is False:
                case.doubt(1, f"no property of {model.name} answers to `{name}` in the path of an item")

    def _has_item_path(self, model: Model, route: Route) -> bool:
        group = self._groups.get(route.collection)
        return group is not None and "GET" in group.at_item

    def _unsourced(self, model: Model, shaped: Shaped, given: Iterable[str], located: "Located") -> list[str]:
        scoped = [one.property for one in located.scopes]
        return [
            f"`{name}` is required in responses and nothing supplies it"
            for name in self._modeller.missing(model, shaped, (*given, *scoped))
        ]

    def _create_many(
        self, case: Case, model: Model, request: Request, located: "Located", action: Action = Action.CREATE_MANY
    ) -> Outcome:
        item, shape = self._bulk_answer(case, model)
        if isinstance(item, str):
            return hooked("bulk", item)
        case.doubt(1, "elements are taken one by one; the document does not say whether all or none")
        many = case.operation.success_code == 207
        key = PathKey("", model.name, model.key.name) if action is Action.PATCH_MANY else None
        plan = Plan(action, model.name, located.ancestors, key, scopes=located.scopes, shape=shape, via=located.via)
        plan = replace(plan, item=item) if many else replace(plan, wrapper=item)
        return case.derived("bulk", plan, request)

    def _bulk_answer(self, case: Case, model: Model) -> tuple[Wrapper | str, Shape | None]:
        """What a bulk write answers: all the things, or (207) one small answer for each element."""
        pointer = case.operation.answer.schema_pointer
        if case.answer.kind is Kind.NOTHING or pointer is None:
            return Wrapper(), None
        if case.answer.kind is not Kind.ITEMS or case.answer.entity is None:
            return "what it answers does not show the things that it makes", None
        if case.answer.missing:
            return f"nothing supplies `{case.answer.missing[0]}` of the envelope", None
        if case.operation.success_code != 207:
            shaped = self._modeller.response_shape(model, case.answer.entity)
            return (
                (case.answer.wrapper, shaped.shape)
                if not shaped.problems and shaped.shape.fields
                else ("what it answers does not show the things that it makes", None)
            )
        return self._element_answer(model, case.answer.entity)

    def _element_answer(self, model: Model, pointer: str) -> tuple[Wrapper | str, Shape | None]:
        view = self._schemas.view(pointer)
        # Alternatives are successes and failures: the success is the one that shows most of the thing.
        options = view.variants or (pointer,)
        best = max(options, key=lambda one: len(self._modeller.response_shape(model, one).shape.fields))
        wrapper, missing = self._responses.bare(best)
        shaped = self._modeller.response_shape(model, best)
        shown = {one.name for one in shaped.shape.fields}
        lacking = [one for one in missing if one not in shown]
        if lacking:
            return f"nothing supplies `{lacking[0]}` of an element's answer", None
        if shown - {model.key.name}:
            return "an element's answer mixes the thing with other fields", None
        fields = [one for one in wrapper.fields if one.path[0] not in shown]
        fields += [EnvelopeField((name,), Meta.KEY) for name in sorted(shown)]
        return Wrapper(fields=tuple(fields), bare=True), None

    def _update_by_post(self, case: Case) -> Outcome:
        model = case.model
        assert model is not None
        request = self._finder.request(case.operation, model.draft)
        if request is None:
            return hooked("unknown", "what a POST to an existing thing does is not defined")
        case.doubt(1, "a POST to an existing thing could do more than change it")
        return self._change(case, Action.PATCH, "update-by-post", request, case.route.steps)

    def _put_item(self, case: Case) -> Outcome:
        return self._written(case, Action.REPLACE, "replace")

    def _patch_item(self, case: Case) -> Outcome:
        return self._written(case, Action.PATCH, "patch")

    def _written(self, case: Case, action: Action, rule: str) -> Outcome:
        model = case.model
        assert model is not None
        request = self._finder.request(case.operation, model.draft)
        if request is None:
            return hooked(
                rule, f"its body does not describe a {model.name}" if case.operation.body else "it has no body"
            )
        if request.many:
            return hooked(rule, "it takes several things for one")
        return self._change(case, action, rule, request, case.route.steps)

    def _change(self, case: Case, action: Action, rule: str, request: Request, steps: tuple[Step, ...]) -> Outcome:
        model = case.model
        assert model is not None
        located = self._locate(case, model, steps[-1], steps)
        if isinstance(located, str):
            return hooked(rule, located)
        return self._changed(case, action, rule, request, located)

    def _changed(self, case: Case, action: Action, rule: str, request: Request, located: "Located") -> Outcome:
        model = case.model
        assert model is not None
        shaped = self._modeller.request_shape(model, request)
        if shaped.problems:
            return hooked(rule, shaped.problems[0])
        if action is Action.PATCH and self._has_conditions(model):
            return hooked(rule, "the response's conditions tie properties together: a partial change could break them")
        if not shaped.shape.fields:
            return hooked(rule, f"its body changes nothing of a {model.name}")
        shown = self._shown(case, model)
        if isinstance(shown, str):
            return hooked(rule, shown)
        ignored = self._ignored(case, ())
        if isinstance(ignored, str):
            return hooked(rule, ignored)
        plan = Plan(
            action,
            model.name,
            located.ancestors,
            located.key,
            scopes=located.scopes,
            wrapper=shown.wrapper,
            shape=shown.shape,
            via=located.via,
            version=self._version(model, request),
            ignored=ignored,
        )
        return case.derived(rule, plan, request)

    def _has_conditions(self, model: Model) -> bool:
        views = [self._schemas.entity(one) for one in model.draft.reads]
        return any(one.cross or one.variants for one in views)

    def _version(self, model: Model, request: Request) -> VersionCheck | None:
        stored = next(
            (
                one
                for one in model.properties.values()
                if one.generated is not None and one.generated.value == "version"
            ),
            None,
        )
        if stored is None:
            return None
        wanted = {fold(stored.name), "current" + fold(stored.name), "expected" + fold(stored.name)}
        given = self._schemas.entity(request.entity).properties
        name = next((one for one in given if fold(one) in wanted), None)
        return VersionCheck(name, stored.name) if name else None

    def _put_collection(self, case: Case) -> Outcome:
        """A PUT without an id in the path: a singleton, or the key stands in the body."""
        return self._keyed_by_body(
            case, Action.REPLACE if case.operation.declares(404) else Action.UPSERT, "put-without-id"
        )

    def _patch_collection(self, case: Case) -> Outcome:
        return self._keyed_by_body(case, Action.PATCH, "patch-without-id")

    def _keyed_by_body(self, case: Case, action: Action, rule: str) -> Outcome:
        model = case.model
        assert model is not None
        request = self._finder.request(case.operation, model.draft)
        if request is None:
            return hooked(rule, f"its body does not describe a {model.name}")
        located = self._locate(case, model, None)
        if isinstance(located, str):
            return hooked(rule, located)
        if model.draft.singleton:
            action = Action.PATCH if action is Action.PATCH else Action.REPLACE
            return self._changed_singleton(case, action, request, located)
        view = self._schemas.entity(request.entity)
        keyed = model.key.name in view.properties and not self._schemas.flag(
            view.properties[model.key.name], "readOnly"
        )
        if not keyed:
            return hooked(rule, f"neither path nor body says which {model.name} is meant")
        if request.many:
            if action is not Action.PATCH:
                return hooked("bulk", "replacing several things at once has no rule")
            shaped = self._modeller.request_shape(model, request)
            return (
                hooked("bulk", shaped.problems[0])
                if shaped.problems
                else self._create_many(case, model, request, located, Action.PATCH_MANY)
            )
        case.doubt(1, f"the {model.key.name} in the body is taken as the key")
        if action is Action.UPSERT:
            shaped = self._modeller.request_shape(model, request)
            lacking = self._unsourced(model, shaped, [located.via] if located.via else [], located)
            if lacking:
                return hooked(rule, lacking[0])
        return self._changed(case, action, rule, request, replace(located, key=PathKey("", model.name, model.key.name)))

    def _changed_singleton(self, case: Case, action: Action, request: Request, located: "Located") -> Outcome:
        model = case.model
        assert model is not None
        if action is Action.REPLACE:
            shaped = self._modeller.request_shape(model, request)
            lacking = self._unsourced(model, shaped, [located.via] if located.via else [], located)
            if lacking:
                return hooked("singleton", lacking[0])
        return self._changed(case, action, "singleton", request, located)

    def _delete_item(self, case: Case) -> Outcome:
        model = case.model
        assert model is not None
        located = self._locate(case, model, case.route.steps[-1])
        if isinstance(located, str):
            return hooked("delete", located)
        shown = self._shown(case, model)
        if isinstance(shown, str):
            return hooked("delete", shown)
        ignored = self._ignored(case, [one for one in case.operation.parameters if one.place == "query"])
        if isinstance(ignored, str):
            return hooked("delete", ignored)
        first = words(case.operation.id)[:1] or words(str(case.operation.node.get("summary", "")))[:1]
        if first and first[0] in ("cancel", "archive", "deactivate", "disable", "close", "revoke"):
            case.doubt(1, f"to {first[0]} could mean a state rather than a deletion")
        plan = Plan(
            Action.DELETE,
            model.name,
            located.ancestors,
            located.key,
            scopes=located.scopes,
            wrapper=shown.wrapper,
            shape=shown.shape,
            via=located.via,
            ignored=ignored,
        )
        return case.derived("delete", plan)

    def _delete_collection(self, case: Case) -> Outcome:
        model = case.model
        assert model is not None
        if model.draft.singleton or case.operation.body:
            return hooked("delete", "what exactly is deleted is not defined")
        located = self._locate(case, model, None)
        if isinstance(located, str):
            return hooked("delete-all", located)
        parts = self._lists.read(case.operation, model, has_next=False)
        if parts.unknown or parts.paging.style is not PagingStyle.NONE:
            return hooked("delete-all", "which of them are deleted depends on a parameter that no rule knows")
        shown = self._shown(case, model)
        if isinstance(shown, str) or (not isinstance(shown, str) and shown.shape is not None):
            return hooked("delete-all", shown if isinstance(shown, str) else "it answers one thing for many")
        case.doubt(1, "all of them are deleted; the document could mean less")
        plan = Plan(
            Action.DELETE_ALL,
            model.name,
            located.ancestors,
            filters=tuple(parts.filters),
            wrapper=shown.wrapper,
            scopes=located.scopes,
            via=located.via,
        )
        return case.derived("delete-all", plan)

    # --- parts that several rules use ---

    def _locate(
        self, case: Case, model: Model, step: Step | None, steps: tuple[Step, ...] | None = None
    ) -> "Located | str":
        """Ancestors and, with `step`, the key of the item; or what stands against it."""
        steps = steps if steps is not None else case.route.steps
        above = steps[:-1] if step is not None else steps
        if any(one.field for one in above):
            return "a parameter in the middle of the path looks something up"
        collection = step.collection if step is not None else case.route.collection
        located = self._chain(above, model, collection)
        if located.problem:
            return located.problem
        if step is None:
            return located
        key = self._key(model, step)
        if isinstance(key, str):
            return key
        if step.field is not None:
            case.doubt(1, f"`{key.property}` is taken as unique")
        if not model.key.visible and key.property == model.key.name:
            case.doubt(1, f"no property of {model.name} shows its key; the Location header does")
        return replace(located, key=replace(key, via=located.via, scopes=located.scopes))

    def _key(self, model: Model, step: Step) -> PathKey | str:
        name = self._modeller.path_property(model, step.field or step.parameter)
        if (
            name is None
            and not model.key.visible
            and (fold(step.parameter).endswith(("id", "uuid", "key", "number")) or not step.parameter.isalpha())
        ):
            name = model.key.name
        if name is None or name not in model.properties:
            return f"no property of {model.name} answers to the path parameter `{step.parameter}`"
        if name != model.key.name and not model.properties[name].unique:
            return f"`{name}` of {model.name} is not known to be unique"
        return PathKey(step.parameter, model.name, name)

    def _chain(self, steps: tuple[Step, ...], model: Model, collection: GroupKey = ()) -> "Located":
        """The known ancestors, each tied to the one before it, and the tie of `model` to the last."""
        ancestors: list[PathKey] = []
        pending: list[Scope] = []
        before: Model | None = None
        for step in steps:
            known = self._modeller.of(self._finder.of_group(step.collection))
            if known is None:
                pending.append(self._scope_of(step, model, collection))
                continue
            key = self._key(known, step)
            if isinstance(key, str):
                return Located(problem=key)
            tie = known.parents.get(step.collection)
            if before is not None and (tie is None or tie.reference is None):
                return Located(problem=f"how a {known.name} belongs to a {before.name} is not described")
            scopes = known.scopes.get(step.collection, ())
            ancestors.append(replace(key, via=tie.reference if tie and before is not None else None, scopes=scopes))
            pending, before = [], known
        tie = model.parents.get(collection)
        if before is not None and before is not model and tie is None:
            return Located(problem=f"how a {model.name} belongs to a {before.name} is not described")
        scopes = tuple(pending)
        if any(not one.property for one in scopes):
            return Located(problem=f"nothing is known about the path parameter `{scopes[0].parameter}`")
        via = tie.reference if tie and before is not None else None
        through = tie.through if tie and before is not None else None
        return Located(tuple(ancestors), None, scopes, via, through)

    def _scope_of(self, step: Step, model: Model, collection: GroupKey) -> Scope:
        found = (one for one in model.scopes.get(collection, ()) if one.parameter == step.parameter)
        fallback = (one for scopes in model.scopes.values() for one in scopes if one.parameter == step.parameter)
        return next(found, None) or next(fallback, None) or Scope(step.parameter, "")

    def _shown(self, case: Case, model: Model) -> "Shown | str":
        """What a success shows of `model`: nothing, the row, or a bare envelope; or why that cannot be filled."""
        pointer = case.operation.answer.schema_pointer
        if case.answer.kind is Kind.NOTHING or pointer is None or case.operation.success_code == 204:
            if case.operation.answer.json_media and pointer is None:
                case.doubt(1, "the body of its success has no schema; none is sent")
            return Shown(None, Wrapper())
        if case.answer.kind is not Kind.ITEM or case.answer.entity is None:
            return "what it answers is no single thing"
        whole = self._schemas.entity(pointer)
        if self._responses.is_only_meta(whole):
            wrapper, missing = self._responses.bare(pointer)
            if missing:
                return f"nothing supplies `{missing[0]}` of the answer"
            case.doubt(1, "the texts of its answer are fixed ones")
            return Shown(None, wrapper)
        if case.answer.missing:
            return f"nothing supplies `{case.answer.missing[0]}` of the envelope"
        other = self._modeller.of_schema(case.answer.entity)
        if other is not None and other is not model:
            return f"it answers a {other.name}, not the {model.name}"
        shaped = self._modeller.response_shape(model, case.answer.entity)
        if shaped.problems:
            return shaped.problems[0]
        if not shaped.shape.fields:
            return f"what it answers shows nothing of a {model.name}"
        names = {one.name for one in shaped.shape.fields}
        unknown = self._schemas.entity(case.answer.entity).properties.keys() - names
        if len(unknown) > len(shaped.shape.fields):
            return f"what it answers is not described as a {model.name}"
        return Shown(shaped.shape, case.answer.wrapper)

    def _doubt_makers(self, case: Case, model: Model) -> None:
        made = model.creates or any(
            one.method == "PUT" and not self._routes[one.path].ends_with_item for one, _ in model.writes
        )
        if not made and not model.draft.singleton:
            case.doubt(1, f"no operation makes a {model.name}: rows come from elsewhere")

    def _ignored(
        self, case: Case, unknown: Iterable[RawParameter], harmless: Iterable[str] = ()
    ) -> tuple[str, ...] | str:
        """Parameters without effect; a required one of unknown meaning stands against the derivation."""
        ignored = list(harmless)
        queries = list(unknown)
        if case.operation.method not in ("GET", "DELETE") or case.answer.kind is not Kind.ITEMS:
            queries = [
                one
                for one in case.operation.parameters
                if one.place == "query" and fold(one.name) not in vocabulary.HARMLESS
            ]
        for parameter in queries:
            if parameter.required:
                return f"the required parameter `{parameter.name}` has a meaning that no rule knows"
            case.doubt(1, f"the parameter `{parameter.name}` has no effect")
            ignored.append(parameter.name)
        for parameter in case.operation.parameters:
            if parameter.place not in ("header", "cookie") or fold(parameter.name) in vocabulary.HARMLESS_HEADERS:
                continue
            case.doubt(
                2 if parameter.required else 1, f"the {parameter.place} parameter `{parameter.name}` has no effect"
            )
            ignored.append(parameter.name)
        return tuple(ignored)

    def _has_link_header(self, operation: RawOperation) -> bool:
        _, response = operation.responses[operation.success]
        return any(fold(name) in ("link", "xnextcursor") for name in response.get("headers", {}))

    def _headers(self, operation: RawOperation, *, many: bool) -> tuple[HeaderField, ...]:
        _, response = operation.responses[operation.success]
        found = []
        for name in response.get("headers", {}):
            source = _HEADERS.get(fold(name))
            if source is not None and many:
                found.append(HeaderField(name, source))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Located:
    """Where in the tree of things an operation works; `problem` says why that is not known."""

    ancestors: tuple[PathKey, ...] = ()
    key: PathKey | None = None
    scopes: tuple[Scope, ...] = ()
    via: str | None = None
    through: str | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a success shows."""

    shape: Shape | None
    wrapper: Wrapper


def replace_model(case: Case, model: Model) -> Case:
    """The same case about another resource; doubts are shared."""
    return Case(case.operation, case.route, model, case.answer, case.doubts)


def _fitting(wrapper: Wrapper, parts: ListParts) -> Wrapper:
    """Without next cursor where the list has none."""
    kept = []
    for one in wrapper.fields:
        if one.source is Meta.NEXT_CURSOR and parts.paging.style is not PagingStyle.CURSOR:
            if one.nullable:
                kept.append(EnvelopeField(one.path, Meta.CONSTANT, None, nullable=True))
            continue
        kept.append(one)
    return replace(wrapper, fields=tuple(kept))


def resources_of(plan: Plan) -> Iterable[str]:
    """Names of all resources that a plan speaks of."""
    names = [plan.resource, *(one.resource for one in plan.ancestors)]
    names += [plan.key.resource] if plan.key else []
    names += [plan.member.resource] if plan.member else []
    return [one for one in dict.fromkeys(names) if one]
