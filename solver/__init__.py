"""The generator of the solver settings."""
