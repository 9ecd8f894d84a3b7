"""What this service is: its name, its place and its operations. Generated from the document by Backwright."""

from app.routers import catalogue, house, members, tools
from app.routing import Routes

NAME = "tool-library"
BASE_PATH = "/api/v1"
ROUTERS: tuple[Routes, ...] = (
    members.routes,
    tools.routes,
    catalogue.routes,
    house.routes,
)
