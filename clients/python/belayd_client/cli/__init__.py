"""The command line `belayctl`. A command is one Command in its noun's file; grpc is imported late."""
