//! Linux mechanisms: the only crate that holds `unsafe`.
