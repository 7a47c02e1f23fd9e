"""What a session holds and how it evolves."""
