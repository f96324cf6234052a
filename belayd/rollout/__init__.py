"""Rollouts: one deployment over many boards, in waves, each board checked before it counts.

course      which board is next and when to stop; pure
intent      what is deployed, how a board is checked, and how that is kept
visit       the work on one board: its lease, its files, its check, its old files again
live        one rollout that has not ended
conductor   all of them: begun, paused, resumed, aborted, carried on after a restart
"""
