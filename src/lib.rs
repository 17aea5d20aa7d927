//! meshplan builds a mesh's CA files from one KDL plan and takes them to its clusters.
//!
//! Data goes one way: text → [`plan`] (a checked plan, or all its problems) → [`graph`] (tasks as plain
//! data) → [`build`] (what is stale, in which order, published whole) → [`action`] (bytes in, PEM out;
//! what to ask of kubectl and istioctl) → events → [`report`]. [`make`] takes the place of a plan's text
//! where Istio's Makefiles are stood in for. [`host`] is the only door to files, processes and the clock.

pub mod action;
pub mod build;
pub mod cli;
pub mod graph;
pub mod host;
pub mod make;
pub mod plan;
pub mod report;
