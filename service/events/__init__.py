"""Events of a project: as a list, as a stream, and as what requests wait for."""
