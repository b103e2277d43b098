"""The command `porttrace`."""
