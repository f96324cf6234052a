"""The gRPC skin: translates requests to calls of the rooms below and outcomes back."""
