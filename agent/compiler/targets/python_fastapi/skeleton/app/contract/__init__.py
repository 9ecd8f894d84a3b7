"""The contract: requests are held against the document that the service publishes, by validators compiled at the start.

Stricter than a JSON Schema validator where the difference would reach the database or another client:
the text of a parameter is checked before it is converted; JSON is decoded without NaN, infinities, lone surrogates
and byte order marks; U+0000 is refused; dates and times must exist in Python and in PostgreSQL; `int32` and `int64`
are ranges. Properties that are `readOnly` are not required in a request.

`operation.py` is the entrance; a parameter goes through `parameter.py`, a body through `body.py`, both judged by
`schema.py`.
"""

from app.contract.document import read_only_names, resolve
from app.contract.operation import METHODS, Contract, Inputs, OperationContract

__all__ = ["METHODS", "Contract", "Inputs", "OperationContract", "read_only_names", "resolve"]
