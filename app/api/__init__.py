"""HTTP: one blueprint a noun, each view a thin hand around intake. `problems.py` alone maps errors."""
