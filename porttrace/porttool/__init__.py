"""The embedded port tool."""
