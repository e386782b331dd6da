"""The machinery that runs jobs: Celery children that claim, batch, infer, settle and notify."""
