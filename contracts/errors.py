"""Errors of the contract package: a record that is not what it should be."""


class ContractError(ValueError):
    """A record cannot be understood.

    `code` is stable (`envelope.missing_id`, `payload.not_json`, `payload.invalid`, `type.unknown`, …), `pointer`
    is a JSON pointer into the value or the name of a header, `remedy` says what the sender can do.
    """

    def __init__(self, code: str, message: str, *, pointer: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.pointer = pointer
        self.remedy = remedy
