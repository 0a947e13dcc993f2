"""Takes events of partners, if their contracts do."""
