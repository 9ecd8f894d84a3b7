"""Tests of single rows: made and read back, changed, replaced, deleted, tied to others."""

from collections.abc import Iterator, Mapping
from typing import Any

from agent.compiler import ir
from agent.compiler.targets.python_fastapi.names import snake
from agent.compiler.targets.python_fastapi.suite.calls import (
    call,
    entity_of,
    inside,
    merged,
    nested,
    parameters_of,
    send,
)
from agent.compiler.targets.python_fastapi.suite.factories import Entity, Maker, Place, is_creator
from agent.compiler.targets.python_fastapi.suite.model import Code, Test
from agent.compiler.targets.python_fastapi.suite.subject import Reading, Subject, names_in

Json = Any


def row_tests(subject: Subject) -> Iterator[Test]:
    """All of them, by kind and then in the order of the document."""
    for kind in (created, taken, found, patched, replaced, deleted, only_row, tied):
        for operation in subject.operations:
            if operation.plan is not None:
                yield from kind(subject, operation, operation.plan)


def created(subject: Subject, operation: ir.Operation, plan: ir.Plan) -> Iterator[Test]:
    """What is sent is shown, and stands at the row's own address."""
    place, maker = subject.makers.place(operation), subject.maker
    if not is_creator(operation) or place is None or plan.shape is None or plan.wrapper.bare:
        return
    unique = maker.unique if maker else frozenset()
    sent = {name: value for name, value in subject.others(operation).items() if name not in unique}
    make = _make_with(subject, operation, place)
    if make is None or not sent:
        return
    act = [f"made = {make}", "assert made == {**made, **sent}"]
    reading = subject.reading(place, "made", operation) if maker and _shows_alike(plan.shape, maker) else None
    if reading is not None and reading.plan.shape == plan.shape:
        act.append(f"assert {reading.shown} == made")
    elif reading is not None:
        shown = subject.plain(reading.plan.shape)
        kept = {name: value for name, value in sent.items() if name in shown}
        act += [f"found = {reading.shown}", f"assert found == {merged('found', kept)}"]
    yield subject.test(
        f"created_{subject.noun}_is_read_back",
        f"{operation.method} {operation.path} keeps what is sent, and its answer is true.",
        [*place.arrange, f"sent: dict[str, Json] = {sent!r}"],
        act,
        of=operation,
    )


def _make_with(subject: Subject, operation: ir.Operation, place: Place) -> Code | None:
    """A call that makes a row with the properties in `sent`; by the factory if it uses the operation."""
    if subject.maker is not None and subject.maker.operation is operation:
        return Code(f"await make_{subject.noun}({', '.join(['api', *place.rows.values(), '**sent'])})")
    body, entity = operation.body, entity_of(operation)
    if body is None or body.shape is None or entity is None:
        return None
    valid = subject.makers.entity(subject.resource, body.shape, body.schema_pointer, entity, body.unwrap)
    if valid is None:
        return None
    whole = Code(f"{repr(valid.code)[:-1]}, **sent}}" if valid.code else "sent")
    return inside(
        call(operation, place.keys, nested(whole, body.unwrap)), operation.plan.wrapper.path if operation.plan else ()
    )


def _shows_alike(shape: ir.Shape, maker: Maker) -> bool:
    """Whether an answer shows the key under the name that the factory's answer has."""
    own = maker.shown.get(maker.resource.key)
    return own is not None and any(part.property == own.property and part.name == own.name for part in shape.fields)


def taken(subject: Subject, operation: ir.Operation, plan: ir.Plan) -> Iterator[Test]:
    """Of two that race for a unique value one wins: the database decides, not a look beforehand."""
    maker, body, place = subject.maker, operation.body, subject.makers.place(operation)
    if maker is None or maker.operation is not operation or plan.action is not ir.Action.CREATE or not maker.unique:
        return
    key = maker.taken.get(maker.resource.key)
    scope = {plan.via, *(one.property for one in plan.scopes), *maker.taken}
    enforced = maker.unique - ({key.name} if key else set()) or set(maker.resource.key_scope) <= scope
    if not enforced or body is None or place is None:
        return
    request = send(operation, place.keys, Code("body"))
    yield subject.test(
        f"taken_value_makes_no_second_{subject.noun}",
        "Of two requests with the same unique value one wins, also at the same time.",
        [*place.arrange, f"body = {nested(maker.body(), body.unwrap)!r}"],
        [
            f"both = await asyncio.gather(*({request} for _ in range(2)))",
            f"assert sorted(answered.status_code for answered in both) == [{operation.success}, 409]",
        ],
        of=operation,
    )


def found(subject: Subject, operation: ir.Operation, plan: ir.Plan) -> Iterator[Test]:
    """Other addresses than the first one show the same row; below another row it is not found."""
    maker, place = subject.maker, subject.makers.place(operation)
    if plan.action is not ir.Action.GET or plan.shape is None or maker is None or place is None:
        return
    keys = subject.item_keys(operation, place, subject.noun)
    if keys is None:
        return
    row, shown = f"{subject.noun} = {maker.make(place.tie)}", call(operation, keys)
    name = next((part.name for part in plan.shape.fields if part.property == maker.resource.key), None)
    first = subject.reading(place, subject.noun, maker.operation)
    if name is not None and (maker.operation is None or first is None or first.operation is not operation):
        yield subject.test(
            f"{subject.noun}_is_found_by_{snake(operation.id)}",
            f"GET {operation.path} shows the very row.",
            [*place.arrange, row],
            [f"found = {inside(shown, plan.wrapper.path)}", f"assert found[{name!r}] == {maker.key(subject.noun)}"],
        )
    above = subject.makers.of(plan.ancestors[0].resource) if len(plan.ancestors) == 1 and plan.via else None
    if above is None or not above.is_repeatable or not place.tie.is_firm:
        return
    elsewhere = {**keys, plan.ancestors[0].parameter: above.show("other", plan.ancestors[0].property)}
    yield subject.test(
        f"{subject.noun}_is_not_found_below_another_{above.noun}",
        "The whole path counts, not only its end.",
        [*place.arrange, f"other = {place.arrange[0].partition(' = ')[2]}", row],
        [shown, call(operation, elsewhere, expect=404)],
        of=operation,
    )


def patched(subject: Subject, operation: ir.Operation, plan: ir.Plan) -> Iterator[Test]:
    """PATCH is no PUT: one property is sent, every other one stays as it was."""
    maker, place, body = subject.maker, subject.makers.place(operation), operation.body
    if plan.action is not ir.Action.PATCH or maker is None or place is None or body is None:
        return
    keys, reading = subject.item_keys(operation, place, subject.noun), subject.reading(place, subject.noun, operation)
    if keys is None or reading is None:
        return
    always, shown = _named_in_body(operation, maker, subject.noun), subject.plain(reading.plan.shape)
    changes = {
        name: value
        for name, value in subject.others(operation).items()
        if name in shown and name not in always and value != maker.literal.get(name)
        if subject.values.takes((body.schema_pointer,), nested({**always, name: value}, body.unwrap))
    }  # fmt: skip
    if not changes:
        return
    change = Code(f"{{{', '.join([*(f'{key!r}: {value!r}' for key, value in always.items()), 'name: value'])}}}")
    moved = ", ".join(["name: value", *(f"{name!r}: after[{name!r}]" for name in subject.moving(reading.plan.shape))])
    yield subject.test(
        f"change_of_one_property_leaves_the_rest_of_{subject.noun}",
        "PATCH is no PUT: what it does not name stays as it was.",
        [*place.arrange, f"{subject.noun} = {maker.make(place.tie)}", f"before = {reading.shown}"],
        [
            call(operation, keys, nested(change, body.unwrap)),
            f"after = {reading.shown}",
            f"assert after == {{**before, {moved}}}",
        ],
        of=operation,
        cases=(("name", "value"), tuple(changes.items())),
    )


def _named_in_body(operation: ir.Operation, maker: Maker, row: str) -> dict[str, Json]:
    """What a body says to mean a row: its key where no path does, and the name by which a path does."""
    plan, shape = operation.plan, operation.body.shape if operation.body else None
    if plan is None or shape is None or plan.key is None:
        return {}
    name = next((part.name for part in shape.fields if part.property == plan.key.property), None)
    if plan.key.parameter and (name is None or plan.key.property == maker.resource.key):
        return {}
    return {name or plan.key.property: maker.show(row, plan.key.property)}


def _own_key(shape: ir.Shape, maker: Maker, entity: Entity, row: str) -> dict[str, Json]:
    """The key of the row that is replaced, where the body repeats it."""
    name, own = next((part.name for part in shape.fields if part.property == maker.resource.key), None), maker.key(row)
    return {name: own} if name in entity.code and own is not None else {}


def replaced(subject: Subject, operation: ir.Operation, plan: ir.Plan) -> Iterator[Test]:
    """PUT takes the whole: what it leaves out is gone."""
    maker, place, body = subject.maker, subject.makers.place(operation), operation.body
    wanted = operation.method == "PUT" and plan.action in (ir.Action.REPLACE, ir.Action.UPSERT)
    keys = subject.item_keys(operation, place, subject.noun) if place else None
    sample = entity_of(operation)
    if (
        not wanted
        or maker is None
        or place is None
        or keys is None
        or sample is None
        or body is None
        or body.shape is None
    ):
        return
    always = _named_in_body(operation, maker, subject.noun)
    reading = subject.reading(place, subject.noun, operation)
    shown = subject.plain(reading.plan.shape if reading else plan.shape)
    required = subject.values.properties(body.schema_pointer, body.unwrap).required
    tied_by = {part.name for part in body.shape.fields if part.kind != "property"}
    least = {name: value for name, value in sample.items() if name in required or name in tied_by}
    sent = {n: v for n, v in subject.others(operation).items() if n in required and n in shown and n not in always}
    entity = subject.makers.entity(subject.resource, body.shape, body.schema_pointer, {**least, **sent}, body.unwrap)
    if entity is None:
        return
    rest = {
        name: value
        for name, value in {**entity.code, **always, **_own_key(body.shape, maker, entity, subject.noun)}.items()
        if name not in sent
    }
    parts = {n: p for n, p in subject.plain(body.shape).items() if n in shown and n not in {**sent, **rest}}
    left_out = _defaults(maker, parts)
    put = call(operation, keys, nested(merged("sent", rest) if sent else rest, body.unwrap))
    act = _replacing(operation, put, reading, sent, left_out)
    given, used = {"sent": sent, "left_out": left_out}, names_in(act)
    yield subject.test(
        f"{subject.noun}_is_replaced",
        "PUT takes the whole: what is sent is kept, and what is left out goes back to its default.",
        [
            *place.arrange,
            f"{subject.noun} = {maker.make(place.tie)}",
            *(f"{name}: dict[str, Json] = {value!r}" for name, value in given.items() if name in used),
        ],
        act,
        of=operation,
    )


def _replacing(
    operation: ir.Operation, put: Code, reading: Reading | None, sent: Mapping[str, Json], left_out: Mapping[str, Json]
) -> list[str]:
    """Replace, look, compare; as far as there is something to look at."""
    shows = operation.plan is not None and operation.plan.shape is not None and not operation.plan.wrapper.bare
    if not (sent or left_out) or not (reading or shows):
        return [put, *([reading.shown] if reading else [])]
    act = (
        [put, f"found = {reading.shown}"]
        if reading
        else [f"found = {inside(put, operation.plan.wrapper.path if operation.plan else ())}"]
    )
    act += ["assert found == {**found, **sent}"] if sent else []
    return [*act, *(["assert {name: found.get(name) for name in left_out} == left_out"] if left_out else [])]


def _defaults(maker: Maker, parts: Mapping[str, ir.Property]) -> dict[str, Json]:
    """What properties that the factory sets are after a PUT without them."""
    return {
        name: part.default if part.has_default else None
        for name, part in parts.items()
        if maker.literal.get(name) is not None and part.name != maker.resource.key
        if part.has_default or not part.required
    }


def deleted(subject: Subject, operation: ir.Operation, plan: ir.Plan) -> Iterator[Test]:
    """A second time there is nothing to delete; what others refer to stays, where the document says so."""
    maker, place = subject.maker, subject.makers.place(operation)
    if plan.action is not ir.Action.DELETE or maker is None or place is None:
        return
    keys, reading = subject.item_keys(operation, place, subject.noun), subject.reading(place, subject.noun, operation)
    if keys is None:
        return
    arrange = [*place.arrange, f"{subject.noun} = {maker.make(place.tie)}"]
    again = call(operation, keys, expect=404)
    yield subject.test(
        f"deleted_{subject.noun}_is_gone",
        "It is shown no more, and a second time there is nothing to delete.",
        arrange,
        [call(operation, keys), *([reading.gone] if reading else []), again],
        of=operation,
    )
    for child, reference, make in _holders(subject, maker):
        yield subject.test(
            f"{subject.noun}_with_a_{child.noun}_is_kept",
            f"A {child.resource.name} refers to it by `{reference}`; 409 is declared for that.",
            [*arrange, make],
            [call(operation, keys, expect=409), *([reading.shown] if reading else [])],
            of=operation,
        )


def _holders(subject: Subject, maker: Maker) -> Iterator[tuple[Maker, str, Code]]:
    """Resources whose rows keep a row of this one: factory, reference, and the call that makes such a row."""
    own = next(one for one in subject.project.resources if one.name == subject.resource.name)
    tables = {table.name: table for table in subject.project.tables}
    for other in subject.project.resources:
        child = subject.makers.of(other.name)
        if child is None or child.noun == maker.noun:
            continue
        for reference in other.references:
            rule = next(key for key in tables[other.table].foreign_keys if key.column == reference.column)
            if rule.target_table == own.table and rule.on_delete == "RESTRICT":
                tie = subject.makers.tie(child, reference.name, {subject.resource.name: subject.noun})
                if tie is not None:
                    yield child, reference.name, child.make(tie)


def only_row(subject: Subject, operation: ir.Operation, plan: ir.Plan) -> Iterator[Test]:
    """The single row of a resource: made by the first PUT, and the next one replaces it."""
    body, entity = operation.body, entity_of(operation)
    if plan.action is not ir.Action.REPLACE or plan.key is not None or plan.ancestors or body is None or entity is None:
        return
    twins = (one for one in subject.operations if one.path == operation.path and one.plan)
    reader = next((one for one in twins if one.plan and one.plan.action is ir.Action.GET), None)
    if reader is None or reader.plan is None:
        return
    shown, other = subject.plain(reader.plan.shape), subject.others(operation)
    read = call(reader, {})
    act = []
    for values in ({name: entity[name] for name in other}, other):
        kept = {name: value for name, value in values.items() if name in shown}
        act += [
            call(operation, {}, nested({**entity, **values}, body.unwrap)),
            f"found = {inside(read, reader.plan.wrapper.path)}",
            f"assert found == {merged('found', kept)}",
        ]
    yield subject.test(
        f"{subject.noun}_is_set_and_read_back",
        "Nobody can make it anew: the first PUT does, the next one replaces it.",
        [call(reader, {}, expect=404)],
        act,
        of=operation,
    )


def tied(subject: Subject, operation: ir.Operation, plan: ir.Plan) -> Iterator[Test]:
    """What is tied is listed, and no more when the tie is cut."""
    maker, place = subject.maker, subject.makers.place(operation)
    if plan.action is not ir.Action.LINK or plan.member is None or not plan.member.parameter or maker is None:
        return
    member = subject.makers.of(plan.member.resource)
    keys = subject.item_keys(operation, place, subject.noun) if place else None
    value = member.show(member.noun, plan.member.property) if member else None
    if member is None or member.noun == subject.noun or keys is None or place is None or value is None:
        return
    keys[plan.member.parameter] = value
    shown = _tied_keys(subject, operation, keys, member)
    act = [str(call(operation, keys)), *([f"assert {shown} == [{member.key(member.noun)}]"] if shown else [])]
    cut = next(
        (o for o in subject.operations if o.path == operation.path and o.plan and o.plan.action is ir.Action.UNLINK),
        None,
    )
    if cut is not None:
        act += [call(cut, keys), *([f"assert {shown} == []"] if shown else [])]
        act.append(call(cut, keys, expect=404))
    yield subject.test(
        f"{member.noun}_is_tied_to_{subject.noun}",
        "What is tied is shown, and no more when the tie is cut.",
        [
            *place.arrange,
            f"{subject.noun} = {maker.make(place.tie)}",
            f"{member.noun} = {member.make()}",
        ],
        act,
        of=operation,
    )


def _tied_keys(subject: Subject, operation: ir.Operation, keys: Mapping[str, Json], member: Maker) -> Code | None:
    """The keys that the list of members shows; None without such a list."""
    path = operation.path.rpartition("/")[0]
    for listing in subject.makers.operations:
        plan = listing.plan
        if listing.path != path or plan is None or plan.action is not ir.Action.LIST or plan.shape is None:
            continue
        name = next((part.name for part in plan.shape.fields if part.property == member.resource.key), None)
        if name is not None and not any(one.required and one.place is ir.Place.QUERY for one in listing.parameters):
            here = {name: value for name, value in keys.items() if name in parameters_of(path)}
            return Code(f"[row[{name!r}] for row in {inside(call(listing, here), plan.wrapper.path)}]")
    return None
