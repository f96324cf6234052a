"""Single files of one board, read and changed: each function is a job, or part of one."""

from belayd.files.changing import delete as delete
from belayd.files.changing import make_folder as make_folder
from belayd.files.changing import move as move
from belayd.files.changing import touch as touch
from belayd.files.listing import Filesystem as Filesystem
from belayd.files.listing import Found as Found
from belayd.files.listing import list_files as list_files
from belayd.files.listing import usage as usage
from belayd.files.names import check_below_root as check_below_root
from belayd.files.names import check_path as check_path
from belayd.files.reading import read_file as read_file
from belayd.files.writing import Wanted as Wanted
from belayd.files.writing import write_file as write_file
