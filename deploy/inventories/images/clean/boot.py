"""What every holder of this lab's tty boards finds: nothing but this file."""

import gc

gc.collect()
