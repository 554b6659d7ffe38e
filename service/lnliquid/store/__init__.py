"""The seller's memory: SQLModel tables in SQLite, migrations, and what is done to them."""
