"""How well nets find hands: measures, and how they are told."""
