"""Bytes to verified claims, and back: reading a token from a request, verifying, signing, and the keys for both."""
