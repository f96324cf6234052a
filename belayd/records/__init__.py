"""What was deployed to each board, and the way back.

changes    what a deployment does to each path, and what follows from it: pure
keeping    contents of what is replaced, read from the board where nobody holds them
proving    whether a board has what it says it has
looking    asks boards what they have
unsettled  those whose end nobody knows yet
recording  one deployment on record, from before anything is touched to its end
rolling    the way back
records    all of it, for one daemon
"""

from belayd.records.changes import Drift
from belayd.records.keeping import ReadFile
from belayd.records.recording import Asked
from belayd.records.records import Deployed, RecordLimits, Records

__all__ = ["Asked", "Deployed", "Drift", "ReadFile", "RecordLimits", "Records"]
