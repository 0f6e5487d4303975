"""Rows: one writer, several readers, and one module for each family of tables. SQL lives here and nowhere else."""
