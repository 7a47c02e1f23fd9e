"""Bytes to verified claims, and back."""
