"""From the meaning of a document to the tests of its service: every name, value and call is decided here, once."""

from collections.abc import Iterable, Sequence

from agent.compiler import ir
from agent.compiler.targets.python_fastapi.names import Names
from agent.compiler.targets.python_fastapi.project import Project
from agent.compiler.targets.python_fastapi.suite.factories import SERIES, Makers
from agent.compiler.targets.python_fastapi.suite.lists import Lists
from agent.compiler.targets.python_fastapi.suite.model import Module, Suite, Test
from agent.compiler.targets.python_fastapi.suite.refusals import refusal_tests
from agent.compiler.targets.python_fastapi.suite.rows import row_tests
from agent.compiler.targets.python_fastapi.suite.subject import Subject, names_in
from agent.compiler.targets.python_fastapi.suite.values import Values

_TYPES = {"method": "str", "path": "str", "name": "str", "missing": "str", "status": "int"}


def lower_suite(api: ir.Api, project: Project, operations: Sequence[ir.Operation], taken: Iterable[str] = ()) -> Suite:
    """Factories and modules, in the order of the document. `taken`: modules of the skeleton, whose names are no one's."""
    makers = Makers(api, project, [one for one in operations if one.plan], Values(api))
    names, modules = Names(taken), []
    for resource in api.resources:
        own = [one for one in makers.operations if one.plan and one.plan.resource == resource.name]
        module = module_of(Subject(project, makers, resource, own), names) if own else None
        if module is not None and module.tests:
            modules.append(module)
    found = (makers.of(name) for name in makers.resources)
    factories = tuple(maker.factory for maker in found if maker)
    code = [repr((one.body, one.post, *(parent.make for parent in one.parents))) for one in factories]
    counted = {SERIES} & {name for module in modules for name in module.factories}
    return Suite(factories, tuple(modules), names_in(code) | counted)


def module_of(subject: Subject, names: Names) -> Module:
    """All tests of a resource: those of a row first, then lists, then what is refused."""
    lists = Lists(subject)
    tests = [*row_tests(subject), *lists.tests(), *refusal_tests(subject)]
    uses = names_in("\n".join([*test.arrange, *test.act]) for test in tests)
    if lists.made or any("Json" in parameter_types(test) for test in tests):
        uses |= {"Json"}
    given = {name for noun in subject.makers.nouns.values() for name in (f"make_{noun}", f"{noun}_body")}
    given.add(SERIES)
    title = f"What callers may count on: {subject.resource.name}. Generated from the document by Backwright."
    name = f"test_{names.give(subject.collection)}"
    return Module(name, title, tuple(lists.made), tuple(tests), uses, tuple(sorted(uses & given)))


def parameter_types(test: Test) -> list[str]:
    """The types of a test's parameters."""
    return [_TYPES.get(name, "Json") for name in test.parameters]
