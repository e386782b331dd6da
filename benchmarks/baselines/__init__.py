"""What the same machine does without Headrace, in the same run."""
