"""From a file of any format to the stored form of a dataset, a block of rows after the other, in bounded memory."""
