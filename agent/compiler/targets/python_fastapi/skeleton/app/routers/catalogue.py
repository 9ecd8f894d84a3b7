"""Operations tagged catalogue. Generated from the document by Backwright."""

from starlette.responses import Response

from app import crud, resources, shapes
from app.crud import Listing
from app.model import Answer, Envelope, EnvelopeField, Intake, Meta, Paging, Scope, Step, Style
from app.routing import Call, Routes

routes = Routes("catalogue")


LIST_LABELS = Listing(
    scope=Scope(resources.LABEL),
    reply=Answer(
        200,
        shapes.LABEL,
        envelope=Envelope(
            path=("labels",), fields=(EnvelopeField(("page",), Meta.PAGE), EnvelopeField(("pages",), Meta.PAGES))
        ),
    ),
    paging=Paging(
        Style.PAGE,
        limit="pageSize",
        position="page",
        first_page=1,
        default_limit=20,
        maximum_limit=50,
    ),
)


@routes.operation("listLabels", "GET", "/labels", errors=shapes.ERRORS_9)
async def list_labels(call: Call) -> Response:
    """List labels by page"""
    return await crud.read_list(call, LIST_LABELS)


@routes.operation("createLabel", "POST", "/labels", errors=shapes.ERRORS_10)
async def create_label(call: Call) -> Response:
    """Make a label"""
    return await crud.create(
        call,
        Scope(resources.LABEL),
        Intake(shapes.LABEL),
        Answer(201, shapes.LABEL),
        location=True,
    )


@routes.operation("getLabel", "GET", "/labels/{slug}", errors=shapes.ERRORS_11)
async def get_label(call: Call) -> Response:
    """Show a label"""
    return await crud.read(
        call,
        (Step("slug", resources.LABEL, "slug"),),
        Answer(200, shapes.LABEL),
    )


@routes.operation("deleteLabel", "DELETE", "/labels/{slug}", errors=shapes.ERRORS_12)
async def delete_label(call: Call) -> Response:
    """Remove a label from everything"""
    return await crud.remove(
        call,
        (Step("slug", resources.LABEL, "slug"),),
        Answer(204),
    )


LIST_CATEGORIES = Listing(
    scope=Scope(resources.CATEGORY),
    reply=Answer(200, shapes.CATEGORY),
)


@routes.operation("listCategories", "GET", "/categories")
async def list_categories(call: Call) -> Response:
    """List all categories"""
    return await crud.read_list(call, LIST_CATEGORIES)


@routes.operation("createCategory", "POST", "/categories", errors=shapes.ERRORS_13)
async def create_category(call: Call) -> Response:
    """Make a category"""
    return await crud.create(
        call,
        Scope(resources.CATEGORY),
        Intake(shapes.CATEGORY_2),
        Answer(201, shapes.CATEGORY),
        location=True,
    )


@routes.operation("getCategory", "GET", "/categories/{categoryId}", errors=shapes.ERRORS_11)
async def get_category(call: Call) -> Response:
    """Show a category"""
    return await crud.read(
        call,
        (Step("categoryId", resources.CATEGORY, "id"),),
        Answer(200, shapes.CATEGORY),
    )
