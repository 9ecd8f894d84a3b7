"""Operations tagged tools. Generated from the document by Backwright."""

from starlette.responses import Response

from app import crud, resources, shapes
from app.crud import Listing
from app.model import Answer, Envelope, EnvelopeField, Filter, Intake, Meta, Operator, Paging, Scope, Step, Style
from app.routing import Call, Routes

routes = Routes("tools")


LIST_TOOLS = Listing(
    scope=Scope(resources.TOOL),
    reply=Answer(
        200,
        shapes.TOOL,
        envelope=Envelope(
            path=("data",),
            fields=(
                EnvelopeField(("meta", "total"), Meta.TOTAL),
                EnvelopeField(("meta", "offset"), Meta.OFFSET),
                EnvelopeField(("meta", "limit"), Meta.LIMIT),
            ),
        ),
    ),
    filters=(
        Filter("name", "name"),
        Filter("priceMin", "price", Operator.AT_LEAST),
        Filter("priceMax", "price", Operator.AT_MOST),
    ),
    paging=Paging(
        Style.OFFSET,
        limit="limit",
        position="offset",
        default_limit=20,
        maximum_limit=50,
    ),
)


@routes.operation("listTools", "GET", "/tools", errors=shapes.ERRORS_7)
async def list_tools(call: Call) -> Response:
    """List tools by offset"""
    return await crud.read_list(call, LIST_TOOLS)


@routes.operation("createTool", "POST", "/tools", errors=shapes.ERRORS_6)
async def create_tool(call: Call) -> Response:
    """Add a tool"""
    return await crud.create(
        call,
        Scope(resources.TOOL),
        Intake(shapes.TOOL_2),
        Answer(201, shapes.TOOL),
        location=True,
    )


@routes.operation("getTool", "GET", "/tools/{toolId}", errors=shapes.ERRORS_6)
async def get_tool(call: Call) -> Response:
    """Show a tool"""
    return await crud.read(
        call,
        (Step("toolId", resources.TOOL, "id"),),
        Answer(200, shapes.TOOL),
    )


@routes.operation("replaceTool", "PUT", "/tools/{toolId}", errors=shapes.ERRORS_6)
async def replace_tool(call: Call) -> Response:
    """Replace a tool"""
    return await crud.change(
        call,
        (Step("toolId", resources.TOOL, "id"),),
        Intake(shapes.TOOL_2),
        Answer(200, shapes.TOOL),
        whole=True,
    )


@routes.operation("deleteTool", "DELETE", "/tools/{toolId}", errors=shapes.ERRORS_8)
async def delete_tool(call: Call) -> Response:
    """Remove a tool, unless it is lent"""
    return await crud.remove(
        call,
        (Step("toolId", resources.TOOL, "id"),),
        Answer(204),
    )


LIST_LABELS_OF_TOOL = Listing(
    scope=Scope(resources.LABEL, steps=(Step("toolId", resources.TOOL, "id"),), through="labels_members"),
    reply=Answer(200, shapes.LABEL),
)


@routes.operation("listLabelsOfTool", "GET", "/tools/{toolId}/labels", errors=shapes.ERRORS_6)
async def list_labels_of_tool(call: Call) -> Response:
    """List the labels on a tool"""
    return await crud.read_list(call, LIST_LABELS_OF_TOOL)


@routes.operation("addLabelToTool", "PUT", "/tools/{toolId}/labels/{slug}", errors=shapes.ERRORS_6)
async def add_label_to_tool(call: Call) -> Response:
    """Put a label on a tool"""
    return await crud.link(
        call,
        (Step("toolId", resources.TOOL, "id"),),
        "labels_members",
        Step("slug", resources.LABEL, "slug"),
        Answer(204),
    )


@routes.operation("removeLabelFromTool", "DELETE", "/tools/{toolId}/labels/{slug}", errors=shapes.ERRORS_6)
async def remove_label_from_tool(call: Call) -> Response:
    """Take a label off a tool"""
    return await crud.unlink(
        call,
        (Step("toolId", resources.TOOL, "id"),),
        "labels_members",
        Step("slug", resources.LABEL, "slug"),
        Answer(204),
    )
