"""Uploads and the datasets made of them."""
