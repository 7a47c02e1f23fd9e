"""Where missing claims come from: any async function, or a table (``sources.sqlalchemy``)."""

from .function import FunctionSource, source

__all__ = ["FunctionSource", "source"]
