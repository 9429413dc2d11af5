//! Weft's CNI plugin: the client that runtimes execute, and the library behind it.
