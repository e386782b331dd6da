"""What a client asks, without HTTP: authenticate, validate, accept, cancel, retry, erase, wait, follow."""
