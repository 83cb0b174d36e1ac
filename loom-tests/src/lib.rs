//! Loom models of `kpl::ring`; the models stand in `tests/`.
