"""Generated from proto/belayd/v1; never edited."""
