"""The steps by which a database came to have its tables, as alembic reads them."""
