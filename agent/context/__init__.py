"""The mandatory context retrieval of the origin: the question, the answer, and a manager that knows a facts file."""
