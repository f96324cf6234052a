"""Bytes to and from boards: the only code that opens anything to one."""
