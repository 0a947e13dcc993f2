"""How the DAGs do what they name: one noun a module."""
