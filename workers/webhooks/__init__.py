"""The sender: the only process that calls what tenants name. One Celery worker on the queue `webhooks`.

    claim due deliveries ─► body, signature ─► POST through workers/egress.py ─► settle: ended, or due again

`sender` is the loop, `attempt` one try, `body` what is sent, `receivers` who gets how many at a time.
"""
