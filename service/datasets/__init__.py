"""Uploads, and the datasets that are converted from them."""
