//! A container's root filesystem: the plan (pure), the walk within the root, and the steps' execution.

pub mod apply;
mod copy;
pub mod options;
pub mod plan;
pub mod walk;

pub use plan::{Step, plan};
