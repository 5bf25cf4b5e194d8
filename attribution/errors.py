"""Errors of this floor: what is wrong with stored vectors or an index over them, and what to do about it."""

from models.errors import ModelError


class VectorError(ModelError, ValueError):
    """Vectors, or a file of them, that no answer may rest on. Also a ValueError, for callers that know no more."""

    code = "vectors_unusable"
    status = 503
