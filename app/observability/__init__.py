"""What the system says about itself: structured logs and metrics. Never payloads, never secrets."""
