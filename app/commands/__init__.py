"""The operator's commands, one file a noun. `app/cli.py` puts them together."""
