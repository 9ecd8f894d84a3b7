"""What bodies show and take, and what errors look like. Generated from the document by Backwright."""

from app import resources
from app.errors import ErrorShape
from app.model import Shape, Shown

MEMBER = Shape(
    resources.MEMBER,
    (
        Shown("name", "name"),
        Shown("email", "email"),
        Shown("level", "level"),
        Shown("joinedOn", "joinedOn"),
        Shown("address", "address"),
        Shown("id", "id"),
        Shown("createdAt", "createdAt"),
    ),
)

MEMBER_2 = Shape(
    resources.MEMBER,
    (
        Shown("name", "name"),
        Shown("email", "email"),
        Shown("level", "level"),
        Shown("joinedOn", "joinedOn"),
        Shown("address", "address"),
    ),
)

MEMBER_3 = Shape(
    resources.MEMBER,
    (
        Shown("name", "name"),
        Shown("level", "level"),
        Shown("joinedOn", "joinedOn"),
        Shown("address", "address"),
    ),
)

NOTE = Shape(
    resources.NOTE,
    (
        Shown("text", "text"),
        Shown("id", "id"),
    ),
)

LOAN = Shape(
    resources.LOAN,
    (
        Shown("toolId", "toolId"),
        Shown("dueOn", "dueOn"),
        Shown("returned", "returned"),
        Shown("id", "id"),
        Shown("notes", "notes", NOTE),
    ),
)

LOAN_2 = Shape(
    resources.LOAN,
    (
        Shown("toolId", "toolId"),
        Shown("dueOn", "dueOn"),
        Shown("returned", "returned"),
    ),
)

NOTE_2 = Shape(
    resources.NOTE,
    (Shown("text", "text"),),
)

CATEGORY = Shape(
    resources.CATEGORY,
    (
        Shown("id", "id"),
        Shown("name", "name"),
    ),
)

LABEL = Shape(
    resources.LABEL,
    (
        Shown("slug", "slug"),
        Shown("color", "color"),
    ),
)

TOOL = Shape(
    resources.TOOL,
    (
        Shown("name", "name"),
        Shown("price", "price"),
        Shown("purchasedOn", "purchasedOn"),
        Shown("category", "category", CATEGORY),
        Shown("labels", "labels", LABEL),
        Shown("id", "id"),
    ),
)

CATEGORY_2 = Shape(
    resources.CATEGORY,
    (Shown("name", "name"),),
)

TOOL_2 = Shape(
    resources.TOOL,
    (
        Shown("name", "name"),
        Shown("price", "price"),
        Shown("purchasedOn", "purchasedOn"),
        Shown("category", "category", CATEGORY_2, match=("name",)),
        Shown("labels", "labels", LABEL),
    ),
)

SETTINGS = Shape(
    resources.SETTINGS,
    (
        Shown("lendingDays", "lendingDays"),
        Shown("motto", "motto"),
    ),
)

ERROR = ErrorShape(
    "application/problem+json",
    {
        "type": {"$": "type"},
        "title": {"$": "title"},
        "status": {"$": "status"},
        "detail": {"$": "detail"},
        "instance": {"$": "instance"},
    },
)

ERROR_2 = ErrorShape("application/json", {"code": {"$": "code"}, "message": {"$": "detail"}})

ERRORS = {"400": ERROR, "401": ERROR, "403": ERROR}

ERRORS_2 = {"400": ERROR, "401": ERROR, "403": ERROR, "409": ERROR}

ERRORS_3 = {"400": ERROR, "401": ERROR, "403": ERROR, "404": ERROR}

ERRORS_4 = {"400": ERROR, "401": ERROR, "403": ERROR, "404": ERROR, "409": ERROR}

ERRORS_5 = {"401": ERROR, "403": ERROR, "404": ERROR}

ERRORS_6 = {"400": ERROR, "401": ERROR, "404": ERROR}

ERRORS_7 = {"400": ERROR, "401": ERROR}

ERRORS_8 = {"400": ERROR, "401": ERROR, "404": ERROR, "409": ERROR}

ERRORS_9 = {"400": ERROR_2}

ERRORS_10 = {"400": ERROR_2, "401": ERROR_2, "409": ERROR_2}

ERRORS_11 = {"400": ERROR_2, "404": ERROR_2}

ERRORS_12 = {"400": ERROR_2, "401": ERROR_2, "404": ERROR_2}

ERRORS_13 = {"400": ERROR_2, "401": ERROR_2}

ERRORS_14 = {"401": ERROR, "404": ERROR}
