"""The pictures of the README: screenshots and drawings of the real thing."""
