"""Spot on paper: a day of load on machines that vanish, with the real planner and the real scaler."""
