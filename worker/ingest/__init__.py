"""From a file of any format to the stored form of a dataset, one block of rows after the other, in bounded memory."""

import os

# Arrow reads this when it is imported. Its other allocators reserve a gigabyte at once, which would use up much of the
# memory limit of a conversion.
os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
