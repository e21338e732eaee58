"""Writes stored datasets in the formats of uploads, in pieces and bounded memory."""
