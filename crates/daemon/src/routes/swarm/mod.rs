//! Swarm, which there is not. One file for each route.

pub mod inspect;
