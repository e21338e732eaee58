"""Datasets as files again: the stored form becomes what was uploaded, piece by piece, in bounded memory."""
