"""The board conversations, without any I/O: bytes in, events and bytes out."""
