"""Mutates files and lets each reader of the project read them: `make fuzz`, see `__main__`."""
