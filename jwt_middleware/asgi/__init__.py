"""The way of a request between the server and the app."""
