"""HTTP plumbing that all routes share: authentication, errors, paging, downloads, uploads and the server."""
