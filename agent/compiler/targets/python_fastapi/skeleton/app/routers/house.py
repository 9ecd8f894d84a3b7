"""Operations tagged house. Generated from the document by Backwright."""

from starlette.responses import Response

from app import crud, resources, shapes
from app.model import Answer, Intake, Scope
from app.routing import Call, Routes

routes = Routes("house")


@routes.operation("getSettings", "GET", "/settings", errors=shapes.ERRORS_14)
async def get_settings(call: Call) -> Response:
    """Show the rules of the house"""
    return await crud.read_only_row(
        call,
        Scope(resources.SETTINGS),
        Answer(200, shapes.SETTINGS),
    )


@routes.operation("replaceSettings", "PUT", "/settings", errors=shapes.ERRORS_7)
async def replace_settings(call: Call) -> Response:
    """Set the rules of the house"""
    return await crud.put_only_row(
        call,
        Scope(resources.SETTINGS),
        Intake(shapes.SETTINGS),
        Answer(200, shapes.SETTINGS),
        whole=True,
    )
